// Locks between unrelated processes of one machine.
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { alone, crowd, handOver } from "../harness/handover.mjs"

const ours = { role: "ours", label: "ipc-mutex", file: "ours", name: "ours" }
const floor = (label, name) => ({ role: "floor", label, file: "machine", name })
const peers = [ [ "proper-lockfile", "properLockfile" ], [ "lockfile", "lockfile" ], [ "flock(1)", "flock" ] ]
    .map(([ label, name ]) => ({ role: "peer", label, file: "machine", name }))

const latency = (goals) => [
    { key: "p50", title: "p50", unit: "ns", better: "lower", goals },
    { key: "p99", title: "p99", unit: "ns", better: "lower", draw: false }
]

export const group = {
    name: "lpm",
    title: "One machine (lpm)",
    async start () {
        const folder = mkdtempSync(join(tmpdir(), "ipc-mutex-bench-"))
        return {
            target: { folder, url: `lpm:{id}?dir=${encodeURIComponent(folder)}` },
            stop: async () => { rmSync(folder, { recursive: true }) }
        }
    },
    scenarios: [
        {
            name: "pair", title: "Uncontended pair", contenders: [ ours, floor("mpm, alone", "mpm"), ...peers ],
            metrics: latency({ floor: 1.1, peers: true }), run: alone("pairs", { warmUp: 20 })
        },
        {
            name: "handover", title: "Hand-over between processes", contenders: [ ours, floor("a socket", "tokenBySocket"), ...peers ],
            metrics: latency({ floor: 0.4, peers: true }), run: handOver
        },
        {
            name: "crowd", title: "4 processes on one id", contenders: [ ours, ...peers ],
            metrics: [
                { key: "score", title: "pairs/s x Jain", unit: "/s", better: "higher", goals: { peers: true } },
                { key: "fairness", title: "Jain", unit: "", better: "higher", goals: { limit: 0.97 }, draw: false }
            ],
            run: (contender, target, options) => crowd(contender, target, { ...options, processes: 4 })
        }
    ]
}
