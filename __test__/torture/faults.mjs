// What goes wrong in a torture. Each fault begins, and its promise resolves when everything is well again.
//
// A fault gets the world (see world.mjs) and a source of randomness. `hurts` says how long, after its end, a hold may still be
// lost because of it, in multiples of the time to live.
import { setTimeout as sleep } from "node:timers/promises"
import { signal } from "../support/processes.mjs"

/** A pause of the process, or of a network: shorter than the time to live, or longer. */
const span = (world, random) => Math.min(world.longest, random() < 0.5 ? 200 + random() * world.ttl * 500 : world.ttl * (1000 + random() * 1500))

async function stopped (pids, ms) {
    for (const pid of pids)
        signal(pid, "SIGSTOP")
    await sleep(ms)
    for (const pid of pids)
        signal(pid, "SIGCONT")
}

/** What can happen to clients of every model. */
const clients = {
    async "a client is killed" (world, random) {
        const client = world.someClient(random)
        await world.kill(client)
        await sleep(200 + random() * 500)
        await world.startClient()
    },
    async "a client stands still" (world, random) {
        await stopped([ world.someClient(random).pid ], span(world, random))
    },
    async "a client computes" (world, random) {
        const ms = span(world, random)
        await world.someClient(random).send({ block: ms }).catch(() => {})
        await sleep(ms)
    }
}

/** A proxy lets something vanish for a while. */
async function vanishing (world, random, what) {
    const proxy = world.someProxy(random)
    proxy[what]()
    await sleep(span(world, random))
    await proxy.pass()
}

/** What can happen to the connections of one client, which go through a proxy of its own. */
const network = {
    async "connections are reset" (world, random) {
        world.someProxy(random).reset()
    },
    "the network swallows everything": (world, random) => vanishing(world, random, "blackhole"),
    "answers are dropped": (world, random) => vanishing(world, random, "dropReplies"),
    "requests are dropped": (world, random) => vanishing(world, random, "dropRequests"),
    async "the network is frozen, and delivers later" (world, random) {
        const proxy = world.someProxy(random)
        proxy.freeze()
        await sleep(span(world, random))
        await proxy.pass({ keep: true })
    },
    async "the network is slow" (world, random) {
        const proxy = world.someProxy(random)
        proxy.delay(20 + random() * 180)
        await sleep(3000)
        await proxy.pass({ keep: true })
    },
    async "the network is slow, and then swallows everything" (world, random) {
        const proxy = world.someProxy(random)
        proxy.delay(world.ttl * (200 + random() * 200))
        await sleep(Math.min(world.longest, world.ttl * 1500))
        proxy.blackhole()
        await sleep(Math.min(world.longest, world.ttl * 1500))
        await proxy.pass()
    },
    async "connections are refused" (world, random) {
        const proxy = world.someProxy(random)
        await proxy.refuse()
        proxy.reset()
        await sleep(span(world, random))
        await proxy.pass()
    }
}

/** What can happen to the server itself. */
const server = {
    async "the server stands still" (world, random) {
        await world.server.pause()
        await sleep(span(world, random))
        await world.server.resume()
    },
    async "the server is killed and starts again with its data" (world) {
        await world.server.restart({ kill: true })
    }
}

const redis = {
    async "clients are disconnected by the server" ({ server: { admin } }) {
        await admin.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await admin.command("CLIENT", "KILL", "TYPE", "pubsub").catch(() => {})
    },
    async "the server is out of memory" ({ server: { admin } }, random) {
        await admin.command("CONFIG", "SET", "maxmemory", "1")
        await sleep(200 + random() * 1500)
        await admin.command("CONFIG", "SET", "maxmemory", "0")
    },
    async "scripts are forgotten" ({ server: { admin } }) {
        await admin.command("SCRIPT", "FLUSH")
    }
}

const pgsql = {
    async "sessions are terminated" ({ server: { admin } }, random) {
        const rows = await admin.query("select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()")
        await admin.terminate(rows.map(([ pid ]) => pid).filter(() => random() < 0.3))
    },
    async "statements are cancelled" ({ server: { admin } }) {
        await admin.query("select pg_cancel_backend(pid) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()")
    }
}

const etcd = {
    async "the leader stands still" (world, random) {
        const leader = await world.leader()
        await stopped([ leader.pid ], span(world, random))
    },
    async "a lease is revoked" ({ server: { admin } }, random) {
        const leases = await admin.leases()
        if (leases.length > 0)
            await admin.revoke(leases[Math.floor(random() * leases.length)])
    }
}

const consul = {
    async "a session is destroyed" ({ server: { admin } }, random) {
        const sessions = await admin.sessions()
        if (sessions.length > 0) {
            const found = sessions[Math.floor(random() * sessions.length)]
            await admin.destroy(found.ID ?? found)
        }
    }
}

const own = { redis, pgsql, etcd, consul }

/** What a cluster brings about by itself all the time, see cluster.mjs. */
const cluster = {
    async "workers alone are hit" (world, random) {
        await sleep(1000 + random() * 2000)
    }
}

/** The faults of a target by their names. */
export function faultsOf (target) {
    if (target in own)
        return { ...clients, ...network, ...server, ...own[target] }
    return target === "mpm" ? { ...clients, ...cluster } : clients
}

/** Whether a fault concerns the server itself, and so everybody that it serves. */
export function hitsServer (target, name) {
    return name in server || name in (own[target] ?? {})
}
