// Asks the page's own SHA-2 and Ed25519: hex in, answers out.   node arithmetic.mjs JUDGE.js < questions.json
import { readFileSync } from "node:fs";

const Kwh = new Function(`${readFileSync(process.argv[2], "utf8")}; return Kwh;`)();
const bytes = (hex) => Uint8Array.from(Buffer.from(hex, "hex"));
const { messages, signed, numbers } = JSON.parse(readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify({
  hashes: messages.map((hex) => [Kwh.sha256(bytes(hex)), Kwh.sha512(bytes(hex))].map((hash) => Buffer.from(hash).toString("hex"))),
  // The same bytes in pieces of seven.
  pieces: messages.map((hex) => {
    const hash = new Kwh.Sha256(), all = bytes(hex);
    for (let at = 0; at < all.length; at += 7) hash.update(all.subarray(at, at + 7));
    return Buffer.from(hash.digest()).toString("hex");
  }),
  verdicts: signed.map(([key, signature, message]) => Kwh.ed25519Verify(bytes(key), bytes(signature), bytes(message))),
  kwh: numbers.map((number) => Kwh.kwh(BigInt(number))),
}));
