// Locks on PostgreSQL.
import { startPostgres } from "../../__test__/support/servers.mjs"
import { alone, crowd, handOver } from "../harness/handover.mjs"

const ours = { role: "ours", label: "ipc-mutex", file: "ours", name: "ours" }
const floor = { role: "floor", label: "bare protocol", file: "pgsql", name: "floor" }
const peer = { role: "peer", label: "advisory-lock", file: "pgsql", name: "advisoryLock" }
const contenders = [ ours, floor, peer ]

const latency = (goals) => [
    { key: "p50", title: "p50", unit: "ns", better: "lower", goals },
    { key: "p99", title: "p99", unit: "ns", better: "lower", draw: false }
]

export const group = {
    name: "pgsql",
    title: "PostgreSQL (rpm+pgsql)",
    async start () {
        const server = await startPostgres()
        return {
            target: { host: server.host, port: server.port, user: server.user, url: server.url("{id}") },
            server, stop: () => server.close()
        }
    },
    scenarios: [
        { name: "pair", title: "Pair, back to back", contenders, metrics: latency({ floor: 1.2, peers: true }), run: alone("pairs") },
        {
            name: "many", title: "64 ids at once", contenders,
            metrics: [ { key: "perSecond", title: "pairs", unit: "/s", better: "higher", goals: { floor: 0.6, peers: true } } ],
            run: alone("many", { ids: 64 })
        },
        {
            name: "handover", title: "Hand-over between processes", contenders,
            metrics: latency({ floor: 1.2, peers: true }), run: handOver
        },
        {
            name: "crowd", title: "8 processes on one id", contenders,
            metrics: [
                { key: "score", title: "pairs/s x Jain", unit: "/s", better: "higher", goals: { floor: 0.7, peers: true } },
                { key: "fairness", title: "Jain", unit: "", better: "higher", draw: false }
            ],
            run: crowd
        }
    ]
}
