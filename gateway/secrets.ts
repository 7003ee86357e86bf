import { join } from "node:path";
import type { GatewayConfig } from "#gateway/config.ts";
import type { Json } from "#gateway/envoy.ts";

/**
 * Certificates as Envoy takes them: by files of their own that name the PEM files. Those that its configuration names directly it
 * reads once; these again whenever files are moved into their folders, as a renewal does.
 *
 *   services     the gateway's certificate, towards the services
 *   services_ca  whose certificates the services must have
 *   rest         towards clients, where TLS is spoken with them
 */
export type SecretName = "services" | "services_ca" | "rest";

/** Names a secret in Envoy's configuration; the files lie in the folder. */
export function secret(folder: string, name: SecretName): Json {
  const path = join(folder, `${name}.json`);
  return { name, sds_config: { resource_api_version: "V3", path_config_source: { path } } };
}

/** What to write into the folder, by file names. */
export function secretFiles({ upstreamTls, tls }: Pick<GatewayConfig, "upstreamTls" | "tls">): [string, string][] {
  const { caFile, ...services } = upstreamTls;
  const secrets: [SecretName, Json][] = [
    ["services", certificate(services)],
    ["services_ca", { validation_context: { trusted_ca: { filename: caFile } } }],
    ...(tls === undefined ? [] : [["rest", certificate(tls)] satisfies [SecretName, Json]]),
  ];
  return secrets.map(([name, content]) => [
    `${name}.json`,
    JSON.stringify({
      resources: [
        { "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret", name, ...content },
      ],
    }),
  ]);
}

function certificate({ certificateFile, keyFile }: { certificateFile: string; keyFile: string }): Json {
  return { tls_certificate: { certificate_chain: { filename: certificateFile }, private_key: { filename: keyFile } } };
}
