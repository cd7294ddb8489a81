// One lock per record, within one process and on Redis.
import { existsSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { startRedis } from "../../__test__/support/servers.mjs"
import { withAgents } from "../harness/agents.mjs"

/** Node.js 24, where there is one for this platform: it has `worker_threads.locks`. All contenders run in the same. */
const NODE = fileURLToPath(new URL("../node_modules/node24/bin/node", import.meta.url))
const has24 = existsSync(NODE)
const contender = (role, label, name) => ({ role, label, file: "names", name, node: has24 ? NODE : undefined })

const local = [
    contender("ours", "LockManager", "ours"),
    contender("floor", "an await", "floor"),
    contender("peer", "async-lock", "asyncLock"),
    contender("peer", "async-mutex", "asyncMutex"),
    ...has24 ? [ contender("peer", "worker_threads.locks", "webLocks") ] : []
]
const onRedis = [
    contender("ours", "LockManager", "oursOnRedis"),
    contender("floor", "bare socket", "socket"),
    contender("peer", "redlock 5", "redlock5"),
    contender("peer", "redis-semaphore", "redisSemaphore")
]
const metrics = [ { key: "perSecond", title: "functions", unit: "/s", better: "higher", goals: { peers: true } } ]

const rate = (names, quickly, fully, isRemote) => async (each, target, { quick }) => {
    const { each: time } = await withAgents(1, each, target, (agent) => agent.call("records", { names, isRemote, count: quick ? quickly : fully }))
    return { perSecond: 1e9 / time }
}

export const group = {
    name: "names",
    title: "One lock per record (spm, rpm+redis)",
    async start () {
        const server = await startRedis()
        return { target: { url: "spm:", host: server.host, port: server.port, redis: server.url("") }, server, stop: () => server.close() }
    },
    scenarios: [
        { name: "hot", title: "100 names in turn", contenders: local, metrics, run: rate(100, 50_000, 300_000) },
        { name: "fresh", title: "A new name each time", contenders: local, metrics, run: rate(0, 50_000, 300_000) },
        { name: "hotredis", title: "100 names in turn, on Redis", contenders: onRedis, metrics, run: rate(100, 3000, 10_000, true) },
        { name: "freshredis", title: "A new name each time, on Redis", contenders: onRedis, metrics, run: rate(0, 3000, 10_000, true) }
    ]
}
