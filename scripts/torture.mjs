// Attacks on locks by clients at work and faults from a seeded schedule:
//   npm run torture [-- <target> ...] [--seed <number>] [--minutes <number>] [--fault <text>] [--quiet]
// A target is spm, mpm, redis, pgsql, consul or etcd; all by default. `--minutes` is for each target (1 by default). `--fault` allows only
// faults whose name contains the text, none if there is no such fault. A violation prints what was believed, the seed that plays the schedule
// again, and the folder with the histories; the exit code is then 1.
//   npm run torture -- --broken [--only <text>] [--javascript | --addon]
// shows instead that it catches broken variants of the product, see broken.mjs.
import { parseArgs } from "node:util"
import { catchBroken } from "./broken.mjs"
import { targets, torture } from "../__test__/torture/torture.mjs"

const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
        seed: { type: "string" }, minutes: { type: "string", default: "1" }, fault: { type: "string" }, quiet: { type: "boolean" },
        broken: { type: "boolean" }, only: { type: "string" }, javascript: { type: "boolean" }, addon: { type: "boolean" }
    }
})
if (values.broken)
    process.exit(await catchBroken(values) > 0 ? 1 : 0)
const chosen = positionals.length > 0 ? positionals : targets
const unknown = chosen.find((each) => !targets.includes(each))
if (unknown !== undefined) {
    console.error(`unknown target ${unknown}: expected ${targets.join(", ")}`)
    process.exit(2)
}
const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31))
let failed = 0
for (const target of chosen) {
    console.log(`\n${target}: seed ${seed}, ${values.minutes} min`)
    const say = values.quiet ? undefined : (line) => console.log(`    ${new Date().toISOString().slice(11, 23)} ${line}`)
    const { violations, counts, faults, folder } = await torture({ target, seed, minutes: Number(values.minutes), only: values.fault, say })
    console.log(`  ${JSON.stringify(counts)}`)
    for (const [ name, count ] of faults)
        console.log(`  ${String(count).padStart(4)} x ${name}`)
    for (const violation of violations.slice(0, 10))
        console.log(`\nVIOLATION: ${violation}`)
    if (violations.length > 0) {
        failed++
        console.log(`\n${violations.length} violations; again: npm run torture -- ${target} --seed ${seed} --minutes ${values.minutes}; histories in ${folder}`)
    }
}
console.log(`\n${chosen.length - failed} passed, ${failed} failed`)
process.exitCode = failed > 0 ? 1 : 0
