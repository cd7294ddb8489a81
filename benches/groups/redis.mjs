// Locks on Redis.
import { startRedis } from "../../__test__/support/servers.mjs"
import { alone, crowd, handOver } from "../harness/handover.mjs"
import { blocked } from "../harness/blocked.mjs"

const ours = { role: "ours", label: "ipc-mutex", file: "ours", name: "ours" }
const floor = { role: "floor", label: "bare socket", file: "redis", name: "floor" }
const list = { role: "floor", label: "BLPOP/RPUSH", file: "redis", name: "tokenInList" }
const peer = (label, name) => ({ role: "peer", label, file: "redis", name })
const peers = [
    peer("ioredis by hand", "ioredis"), peer("redlock 4", "redlock4"), peer("redlock 5", "redlock5"),
    peer("@sesamecare-oss/redlock", "sesamecare"), peer("redis-semaphore", "redisSemaphore")
]

const latency = (goals, tail) => [
    { key: "p50", title: "p50", unit: "ns", better: "lower", goals },
    { key: "p99", title: "p99", unit: "ns", better: "lower", goals: tail, draw: false }
]

export const group = {
    name: "redis",
    title: "Redis (rpm+redis)",
    async start () {
        const server = await startRedis()
        return { target: { host: server.host, port: server.port, url: server.url("{id}") }, server, stop: () => server.close() }
    },
    scenarios: [
        {
            name: "pair", title: "Pair, back to back", contenders: [ ours, floor, ...peers ],
            metrics: latency({ floor: 1.1, peers: true }), run: alone("pairs")
        },
        {
            name: "gap", title: "Pair, 1 ms pause, 1 ms hold", contenders: [ ours, floor, ...peers ],
            metrics: latency({ floor: 1.1, peers: true }), run: alone("pairs", { pause: 1, hold: 1 })
        },
        {
            name: "many", title: "64 ids at once", contenders: [ ours, floor, ...peers ],
            metrics: [ { key: "perSecond", title: "pairs", unit: "/s", better: "higher", goals: { floor: 1.3, peers: true } } ],
            run: alone("many", { ids: 64 })
        },
        {
            name: "handover", title: "Hand-over between processes", contenders: [ ours, list, ...peers ],
            metrics: latency({ floor: 1.3, peers: true }, { floor: 2 }), run: handOver
        },
        {
            name: "crowd", title: "8 processes on one id", contenders: [ ours, list, ...peers ],
            metrics: [
                { key: "score", title: "pairs/s x Jain", unit: "/s", better: "higher", goals: { floor: 0.8, peers: true } },
                { key: "fairness", title: "Jain", unit: "", better: "higher", goals: { limit: 0.95 }, draw: false }
            ],
            run: crowd
        },
        {
            name: "blocked", title: "Event loop blocked for 3 TTLs", rounds: 1,
            contenders: [ ours, peer("redlock 5", "redlock5Renewed"), peer("@sesamecare-oss/redlock", "sesamecareRenewed"),
                peer("redis-semaphore", "redisSemaphoreRenewed") ],
            metrics: [ { key: "kept", title: "kept", unit: "", better: "higher", goals: { limit: 1 }, draw: false } ],
            run: blocked({ ttl: 2 })
        }
    ]
}
