// Runs the judge of verify.html outside of a browser: cases in, reports out, both as JSON.
//   node judge.mjs JUDGE.js native|own < cases.json
import { readFileSync } from "node:fs";

const Kwh = new Function(`${readFileSync(process.argv[2], "utf8")}; return Kwh;`)();
const crypto = await new Kwh.Crypto(process.argv[3] === "native" ? globalThis.crypto.subtle : null).tryNative();
if (crypto.native !== (process.argv[3] === "native")) throw new Error(`native Ed25519: ${crypto.native}`);

const share = ({ num, den }) => (den === 1n ? `${num}` : `${num}/${den}`);
const figures = (sums) => Object.fromEntries([...sums].map(([name, each]) =>
  [name ?? "", ["raw", "adjusted", "estimated", "bound"].map((part) => share(each[part]))]));
const reports = [];
for (const { keys, ackKeys, excerpt, revoked, lines } of JSON.parse(readFileSync(0, "utf8"))) {
  const runs = new Set();
  for (const line of lines) Kwh.announced(line, runs);
  const given = { keys: keys.map(Kwh.keyOfPem), ackKeys: ackKeys.map(Kwh.keyOfPem), revoked: new Map(revoked), runs };
  const verifier = new Kwh.Verifier({ ...given, excerpt, crypto });
  let number = 0;
  for (const line of lines) await verifier.feed(++number, line);
  const r = verifier.report();
  reports.push({
    ok: r.ok,
    verdicts: Object.fromEntries(Object.entries(r.verdicts).map(([name, verdict]) => [name, verdict.count])),
    findings: Object.fromEntries(Object.entries(r.verdicts).map(([name, verdict]) => [name, verdict.findings.map((f) => [f.line, f.code])])),
    counts: r.counts,
    duplicates: r.duplicates,
    acknowledged: r.acknowledged,
    chains: r.chains,
    period: r.period,
    byMeter: Object.fromEntries([...r.byMeter].map(([meter, energy]) => [meter, `${energy}`])),
    byStep: Object.fromEntries([...r.byStep].map(([step, part]) => [step, share(part)])),
    unassigned: share(r.unassigned),
    holes: [r.holes.count, `${r.holes.bound}`, r.holes.unbounded],
    flags: Object.fromEntries(r.flags),
    events: Object.fromEntries(r.events),
    relabelled: r.relabelled.map((each) => [each.chain, each.from, each.to, each.told, each.right, each.err]),
    rightPeriod: r.rightPeriod,
    corrections: {
      applied: r.corrections.applied.map((b) => [b.meter, b.epoch, b.n_from, b.n_to, b.by]),
      byMeter: figures(r.corrections.byMeter),
      byStep: figures(r.corrections.byStep),
      notHere: r.corrections.notHere,
    },
  });
}
process.stdout.write(JSON.stringify(reports));
