// A thousand mutexes of one process on each server.
import { startConsul, startEtcd, startPostgres, startRedis } from "../../__test__/support/servers.mjs"
import { withAgents } from "../harness/agents.mjs"

const COUNT = 1000
const SERVERS = { redis: startRedis, pgsql: startPostgres, etcd: startEtcd, consul: startConsul }
const TITLES = { redis: "Redis", pgsql: "PostgreSQL", etcd: "etcd", consul: "Consul" }
const contenders = [ { role: "ours", label: "ipc-mutex", file: "ours", name: "ours" } ]

async function thousand (contender, servers, name) {
    const server = servers[name] ??= await SERVERS[name]()
    return withAgents(1, contender, { url: server.url("{id}") }, async (agent) => {
        const measured = await agent.call("thousand", { count: COUNT })
        const connections = await server.connections()
        await agent.call("thousand", { count: 0 })
        return { ...measured, connections }
    })
}

export const group = {
    name: "rpm",
    title: `${COUNT} mutexes of one process`,
    async start () {
        const servers = {}
        return { target: servers, stop: () => Promise.all(Object.values(servers).map((server) => server.close())) }
    },
    scenarios: Object.keys(SERVERS).map((name) => ({
        name, title: `${TITLES[name]}: open, then all held`, contenders, rounds: 3,
        metrics: [
            { key: "connections", title: "connections", unit: "", better: "lower", goals: { limit: 3 }, draw: false },
            { key: "open", title: "open", unit: "ms", better: "lower", goals: { limit: 20 } },
            { key: "bytes", title: "memory of each, open", unit: "bytes", better: "lower", goals: { limit: 2048 } },
            { key: "heldBytes", title: "memory of each, held", unit: "bytes", better: "lower", draw: false }
        ],
        run: (contender, servers) => thousand(contender, servers, name)
    }))
}
