import { defineConfig } from "vite";

// `base` is relative so that the page also works behind a proxy's prefix. Everything is one script and one style sheet:
// it is small, and a page that has loaded needs nothing more from the server.
export default defineConfig({
  base: "./",
  build: {
    outDir: "../polyana/dashboard/static",
    emptyOutDir: true,
    target: "es2023",
    modulePreload: false,
    assetsInlineLimit: 0, // a data: address would need a wider content security policy
    reportCompressedSize: true,
  },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  server: { proxy: { "/api": "http://127.0.0.1:8790", "/files": "http://127.0.0.1:8790" } },
});
