// Locks on Consul.
import { startConsul } from "../../__test__/support/servers.mjs"
import { alone, crowd, handOver } from "../harness/handover.mjs"

const ours = { role: "ours", label: "ipc-mutex", file: "ours", name: "ours" }
const puts = { role: "floor", label: "keep-alive PUTs", file: "consul", name: "floor" }
const news = { role: "floor", label: "blocking query", file: "consul", name: "blockingQuery" }
const peer = { role: "peer", label: "consul 0.40", file: "consul", name: "consul" }

const latency = (goals) => [
    { key: "p50", title: "p50", unit: "ns", better: "lower", goals },
    { key: "p99", title: "p99", unit: "ns", better: "lower", draw: false }
]

/** It needs 5 s for each: two are enough to know that. */
const once = (run) => (contender, target, budget) => run(contender, target, contender.role === "peer" ? { ...budget, milliseconds: 1, least: 2 } : budget)

export const group = {
    name: "consul",
    title: "Consul (rpm+consul)",
    async start () {
        const server = await startConsul()
        return { target: { host: server.host, port: server.port, url: server.url("{id}") }, server, stop: () => server.close() }
    },
    scenarios: [
        {
            name: "pair", title: "Pair, back to back", contenders: [ ours, puts, peer ],
            metrics: latency({ floor: 1.1, peers: true }), run: alone("pairs", { warmUp: 10 })
        },
        {
            name: "handover", title: "Hand-over between processes", contenders: [ ours, news, peer ], rounds: 3,
            metrics: latency({ floor: 1.3, peers: true }), run: once(handOver)
        },
        {
            name: "crowd", title: "8 processes on one id", contenders: [ ours, puts ],
            metrics: [
                { key: "score", title: "pairs/s x Jain", unit: "/s", better: "higher", goals: { floor: 1 } },
                { key: "fairness", title: "Jain", unit: "", better: "higher", draw: false }
            ],
            run: crowd
        }
    ]
}
