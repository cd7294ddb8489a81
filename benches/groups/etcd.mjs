// Locks on etcd.
import { startEtcd } from "../../__test__/support/servers.mjs"
import { alone, handOver } from "../harness/handover.mjs"
import { blocked } from "../harness/blocked.mjs"

const ours = { role: "ours", label: "ipc-mutex", file: "ours", name: "ours" }
const puts = { role: "floor", label: "two puts", file: "etcd", name: "floor" }
const service = { role: "floor", label: "lock service", file: "etcd", name: "lockService" }
const peer = { role: "peer", label: "etcd3", file: "etcd", name: "etcd3" }

const latency = (goals) => [
    { key: "p50", title: "p50", unit: "ns", better: "lower", goals },
    { key: "p99", title: "p99", unit: "ns", better: "lower", draw: false }
]

export const group = {
    name: "etcd",
    title: "etcd (rpm+etcd)",
    async start () {
        const server = await startEtcd()
        return { target: { host: server.host, port: server.port, url: server.url("{id}") }, server, stop: () => server.close() }
    },
    scenarios: [
        {
            name: "pair", title: "Pair, back to back", contenders: [ ours, puts, peer ],
            metrics: latency({ floor: 1.1, peers: true }), run: alone("pairs", { warmUp: 20 })
        },
        {
            name: "many", title: "64 ids at once", contenders: [ ours, puts, peer ],
            metrics: [ { key: "perSecond", title: "pairs", unit: "/s", better: "higher", goals: { floor: 1, peers: true } } ],
            run: alone("many", { ids: 64 })
        },
        {
            name: "handover", title: "Hand-over between processes", contenders: [ ours, service, peer ],
            metrics: latency({ floor: 1, peers: true }), run: handOver
        },
        {
            name: "blocked", title: "Event loop blocked for 3 TTLs", rounds: 1,
            contenders: [ ours, { ...peer, name: "etcd3Renewed" } ],
            metrics: [ { key: "kept", title: "kept", unit: "", better: "higher", goals: { limit: 1 }, draw: false } ],
            run: blocked({ ttl: 2 })
        }
    ]
}
