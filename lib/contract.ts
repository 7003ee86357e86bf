import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { createFileRegistry, type FileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";

let registry: FileRegistry | undefined;

/** The contract itself, for what generated code does not say: options, names of fields. Read once: it does not change. */
export function contract(): FileRegistry {
  registry ??= createFileRegistry(
    fromBinary(FileDescriptorSetSchema, readFileSync(fileURLToPath(import.meta.resolve("#proto/descriptors.binpb")))),
  );
  return registry;
}
