// Measures ipc-mutex against its peers and against the floor, the least that any library must spend.
//   npm run bench                      everything; about 15 minutes
//   npm run bench -- --quick           fewer and shorter rounds; within 5 minutes
//   npm run bench -- redis handover    only that group, and of it only that scenario; several of each may be named
//   npm run bench -- --rounds 9        more rounds; --no-charts leaves docs/bench/ as it is
//   npm run bench -- --profile etcd    ours and the floor only, and where their processor time goes: of the servers, of the clients' main
//                                      threads, and of their other threads by name. Linux only; for mpm, redis, pgsql, etcd and consul.
// Prints a table, writes benches/results/<time>.json and one chart for each group that was run in full to docs/bench/.
// Fails if a lock let two in at once. A goal that is missed does not fail the run.
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { root } from "./cargo.mjs"
import { installPeers } from "../benches/harness/peers.mjs"
import { measure } from "../benches/harness/rounds.mjs"
import { judge } from "../benches/harness/verdict.mjs"
import { cells, markdown, table } from "../benches/harness/table.mjs"
import { PROFILE_HEAD, profileCells, requireCounters } from "../benches/harness/profile.mjs"
import { chart } from "../benches/harness/chart.mjs"
import { machine } from "../benches/harness/machine.mjs"

const GROUPS = [ "spm", "names", "mpm", "lpm", "redis", "pgsql", "etcd", "consul", "rpm", "package" ]
/** Where the time of somebody else's processor is part of a lock's. */
const PROFILED = [ "mpm", "redis", "pgsql", "etcd", "consul" ]

const { values: options, positionals } = parseArgs({
    allowPositionals: true,
    options: { quick: { type: "boolean" }, rounds: { type: "string" }, "no-charts": { type: "boolean" }, profile: { type: "boolean" } }
})
const wantedGroups = positionals.filter((name) => GROUPS.includes(name))
const wantedScenarios = positionals.filter((name) => !GROUPS.includes(name)).map((name) => name.replaceAll("-", ""))
const quick = options.quick === true
const profiling = options.profile === true
if (profiling) {
    requireCounters()
    const others = wantedGroups.filter((name) => !PROFILED.includes(name))
    if (others.length > 0)
        throw new Error(`--profile is for ${PROFILED.join(", ")}, not for ${others.join(" and ")}`)
}
const budget = { quick, rounds: Number(options.rounds ?? (quick ? 2 : 5)), milliseconds: quick ? 400 : 1000 }

async function runGroup (name) {
    const { group } = await import(`../benches/groups/${name}.mjs`)
    const scenarios = group.scenarios.filter((scenario) => wantedScenarios.length === 0 || wantedScenarios.includes(scenario.name))
        .map((scenario) => profiling ? { ...scenario, contenders: scenario.contenders.filter(({ role }) => role !== "peer") } : scenario)
    if (scenarios.length === 0)
        return undefined
    console.log(`\n${group.title}`)
    const { target, server, stop } = await group.start()
    const measured = []
    try {
        for (const scenario of scenarios) {
            process.stdout.write(`  ${scenario.title} ...`)
            const begun = performance.now()
            const results = await measure(scenario, target, { ...budget, server, profile: profiling ? server?.pids ?? [] : undefined })
            measured.push({ scenario, results, rows: scenario.metrics.map((metric) => judge(metric, results)) })
            console.log(` ${((performance.now() - begun) / 1000).toFixed(1)} s`)
        }
    }
    finally {
        await stop()
    }
    return { group, measured, whole: scenarios.length === group.scenarios.length }
}

/** What is kept of a run, without what is told by other values. */
function record (runs) {
    return {
        machine: machine(), quick, rounds: budget.rounds, date: new Date().toISOString(),
        groups: runs.map(({ group, measured }) => ({ name: group.name, scenarios: measured.map(({ scenario, results, rows }) => ({
            name: scenario.name, title: scenario.title,
            results: results.map(({ contender, metrics, usage }) => ({ role: contender.role, label: contender.label, metrics, usage })),
            verdicts: rows.map(({ metric, toFloor, toPeer, met }) => ({ metric: metric.key, toFloor, toPeer, met }))
        })) }))
    }
}

if (!profiling)
    installPeers()
console.log(`${machine()}; ${budget.rounds} rounds${quick ? ", quick" : ""}`)
const runs = []
for (const name of wantedGroups.length > 0 ? wantedGroups : profiling ? PROFILED : GROUPS) {
    const run = await runGroup(name)
    if (run !== undefined)
        runs.push(run)
}
if (runs.length === 0)
    throw new Error(`no scenario is called ${positionals.join(" or ")}`)

const lines = runs.flatMap(({ group, measured }) =>
    [ [ `-- ${group.title}`, ...Array(8).fill("") ], ...measured.flatMap(({ scenario, rows }) => cells(scenario, rows)) ])
console.log(`\n${table(lines)}`)
const profile = runs.flatMap(({ group, measured }) =>
    [ [ `-- ${group.title}`, ...Array(5).fill("") ], ...measured.flatMap(({ scenario, results }) => profileCells(scenario, results)) ])
if (profiling)
    console.log(`\n${table(profile, PROFILE_HEAD)}`)

const results = join(root, "benches/results"), charts = join(root, "docs/bench")
mkdirSync(results, { recursive: true })
mkdirSync(charts, { recursive: true })
const file = join(results, new Date().toISOString().replace(/[:.]/g, "-"))
writeFileSync(`${file}.json`, JSON.stringify(record(runs), null, 4))
writeFileSync(`${file}.md`, `${[ markdown(lines), ...profiling ? [ markdown(profile, PROFILE_HEAD) ] : [] ].join("\n\n")}\n`)
if (!options["no-charts"] && !profiling)
    for (const { group, measured, whole } of runs)
        if (whole)
            writeFileSync(join(charts, `${group.name}.svg`), chart(group.title, measured))
console.log(`\nevery lock was exclusive; ${file}.json`)
// Whatever a peer has left open must not keep this alive.
process.exit(0)
