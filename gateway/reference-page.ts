import type { Json } from "#gateway/envoy.ts";

/**
 * The reference page of the API: /docs for people, /openapi.json for programs. Envoy answers them itself; the page takes everything
 * from the gateway, and its policy forbids the browser to ask anybody else.
 */

/** What the gateway serves of it. */
export interface ReferenceFile {
  readonly path: string;
  readonly contentType: string;
  readonly body: { readonly inline_string: string } | { readonly filename: string };
}

/** The script writes its styles into the page, so those are allowed inline; scripts are not. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'unsafe-inline'",
  "img-src 'self' data:",
  "font-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

/** The largest file, the script, has about 4 MB; Envoy serves 4 KB unless it is told how much may come. */
export const MAX_REFERENCE_FILE_BYTES = 8 * 1024 * 1024;

const PAGE = `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>Ledgermesh API</title>
    <link rel="icon" href="data:,">
  </head>
  <body>
    <div id="reference"></div>
    <noscript>This page needs JavaScript. The same in JSON: <a href="/openapi.json">openapi.json</a></noscript>
    <script src="/docs/reference.js"></script>
    <script src="/docs/start.js"></script>
  </body>
</html>
`;

/** No fonts, proxies or offers from elsewhere; tokens that are typed in are kept in the page's memory only. */
const START = `Scalar.createApiReference("#reference", {
  url: "/openapi.json",
  withDefaultFonts: false,
  telemetry: false,
  persistAuth: false,
  hideClientButton: true,
  showDeveloperTools: "never",
  authentication: { preferredSecurityScheme: "bearer" },
  mcp: { disabled: true },
  agent: { disabled: true },
});
`;

/** `scriptFile` is the bundle of @scalar/api-reference, `openApi` the text of the document. */
export function referenceFiles(scriptFile: string, openApi: string): readonly ReferenceFile[] {
  return [
    { path: "/docs", contentType: "text/html; charset=utf-8", body: { inline_string: PAGE } },
    { path: "/docs/start.js", contentType: SCRIPT_TYPE, body: { inline_string: START } },
    { path: "/docs/reference.js", contentType: SCRIPT_TYPE, body: { filename: scriptFile } },
    { path: "/openapi.json", contentType: "application/json", body: { inline_string: openApi } },
  ];
}

const SCRIPT_TYPE = "text/javascript; charset=utf-8";

/** The route of a file, with what every route has that Envoy answers itself; only for GET. */
export function referenceRoute({ path, contentType, body }: ReferenceFile, common: Json): Json {
  const header = (key: string, value: string) => ({
    header: { key, value },
    append_action: "OVERWRITE_IF_EXISTS_OR_ADD",
  });
  return {
    name: path,
    match: { path, headers: [{ name: ":method", string_match: { exact: "GET" } }] },
    ...common,
    direct_response: { status: 200, body },
    response_headers_to_add: [
      header("content-type", contentType),
      header("content-security-policy", POLICY),
      header("cache-control", "no-cache"),
    ],
  };
}
