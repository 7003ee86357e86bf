/** A piece of Envoy's configuration. */
export type Json = Readonly<Record<string, unknown>>;

/** An extension by its name, with its configuration, which says of which type it is. */
export function named(name: string, typedConfig: Json): Json {
  return { name, typed_config: typedConfig };
}

export function socketAddress({ host, port }: { readonly host: string; readonly port: number }): Json {
  return { socket_address: { address: host, port_value: port } };
}
