// Verifies every line of an export with the npm package "jose" and prints what it opened, one JSON a line.
//   node referee.mjs EVIDENCE AGENT.pem PLATFORM.pem        (NODE_PATH does not serve modules: run beside node_modules)
import { createReadStream, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { calculateJwkThumbprint, compactVerify, exportJWK, importSPKI } from "jose";

const [, , evidence, ...pems] = process.argv;
const keys = new Map();
for (const pem of pems) {
  const key = await importSPKI(readFileSync(pem, "utf8"), "Ed25519", { extractable: true });
  keys.set(await calculateJwkThumbprint(await exportJWK(key)), key);
}
for await (const line of createInterface({ input: createReadStream(evidence) })) {
  const { payload, protectedHeader } = await compactVerify(line, (header) => keys.get(header.kid), { algorithms: ["Ed25519"] });
  console.log(JSON.stringify({ typ: protectedHeader.typ, payload: new TextDecoder().decode(payload) }));
}
