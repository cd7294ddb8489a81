// Locks on Redis: the floor by a bare socket, and the packages that people use.
import { connect } from "node:net"
import { once } from "node:events"
import { createRequire } from "node:module"

const require = createRequire(import.meta.url)
const TTL = 10_000
/** What frees a lock in every client that looks whose it is. */
const COMPARE_AND_DELETE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end"

/** A bare socket: one write per command, replies in order, no more parsing than telling where a reply ends. */
class Socket {
    #socket
    #waiting = []
    #rest = ""

    async open ({ host, port }) {
        this.#socket = connect({ host, port, noDelay: true })
        this.#socket.setEncoding("latin1").on("data", (text) => this.#read(text))
        await once(this.#socket, "connect")
        return this
    }

    command (...words) {
        return new Promise((resolve) => {
            this.#waiting.push(resolve)
            this.#socket.write(`*${words.length}\r\n${words.map((word) => `$${word.length}\r\n${word}\r\n`).join("")}`)
        })
    }

    #read (text) {
        this.#rest = this.#rest === "" ? text : this.#rest + text
        let at = 0
        for (;;) {
            const end = endOf(this.#rest, at)
            if (end < 0)
                break
            this.#waiting.shift()(this.#rest.slice(at, end))
            at = end
        }
        this.#rest = this.#rest.slice(at)
    }

    close () {
        this.#socket.destroy()
    }
}

/** Behind the reply that begins at `at`, or -1 if it has not come in full. */
function endOf (text, at) {
    const line = text.indexOf("\r\n", at)
    if (line < 0)
        return -1
    const kind = text[at]
    if (kind === "-")
        throw new Error(text.slice(at, line))
    const size = kind === "$" || kind === "*" ? Number(text.slice(at + 1, line)) : -1
    if (size < 0)
        return line + 2
    if (kind === "$")
        return text.length >= line + 4 + size ? line + 4 + size : -1
    let end = line + 2
    for (let item = 0; item < size && end >= 0; item++)
        end = endOf(text, end)
    return end
}

/** One SET NX PX and one DEL: no client can do with less. */
export async function floor (target) {
    const socket = await new Socket().open(target)
    return {
        lock: (id) => ({
            acquire: async () => {
                if (await socket.command("SET", `floor/${id}`, "token", "NX", "PX", `${TTL}`) !== "+OK\r\n")
                    throw new Error("it was taken")
            },
            release: () => socket.command("DEL", `floor/${id}`)
        }),
        close: () => socket.close()
    }
}

/** A token in a list, which the server itself hands to the next who waits. */
export async function tokenInList (target) {
    const socket = await new Socket().open(target)
    return {
        lock: (id) => ({
            acquire: () => socket.command("BLPOP", `token/${id}`, "0"),
            release: () => socket.command("RPUSH", `token/${id}`, "1")
        }),
        prime: (id) => socket.command("RPUSH", `token/${id}`, "1"),
        close: () => socket.close()
    }
}

async function ioredisOf ({ host, port }) {
    const Redis = require("ioredis")
    const redis = new Redis({ host, port })
    await once(redis, "ready")
    return redis
}

/** The usual recipe by hand: SET NX PX and a script; it cannot wait, so it asks again after 10 ms. */
export async function ioredis (target) {
    const redis = await ioredisOf(target)
    redis.defineCommand("letGo", { numberOfKeys: 1, lua: COMPARE_AND_DELETE })
    return {
        lock: (id) => ({
            acquire: async () => {
                while (await redis.set(`ioredis/${id}`, `token-${process.pid}`, "PX", TTL, "NX") !== "OK")
                    await new Promise((resolve) => setTimeout(resolve, 10))
            },
            release: () => redis.letGo(`ioredis/${id}`, `token-${process.pid}`)
        }),
        close: () => redis.quit()
    }
}

/** They all give up after a while unless told otherwise. */
const PATIENT = { retryCount: -1 }

export async function redlock4 (target) {
    const Redlock = require("redlock4")
    const redis = await ioredisOf(target)
    const redlock = new Redlock([ redis ], PATIENT)
    return byHandle(redis, (id) => redlock.lock(`redlock4/${id}`, TTL), (held) => held.unlock())
}

export async function redlock5 (target) {
    const { default: Redlock } = await import("redlock5")
    const redis = await ioredisOf(target)
    const redlock = new Redlock([ redis ], PATIENT)
    return byHandle(redis, (id) => redlock.acquire([ `redlock5/${id}` ], TTL), (held) => held.release())
}

export async function sesamecare (target) {
    const { Redlock } = require("@sesamecare-oss/redlock")
    const redis = await ioredisOf(target)
    const redlock = new Redlock([ redis ], PATIENT)
    return byHandle(redis, (id) => redlock.acquire([ `sesamecare/${id}` ], TTL), (held) => held.release())
}

/** As the packages have it: a lock is made anew with each acquire. */
function byHandle (redis, acquire, release) {
    return {
        lock (id) {
            let held
            return { acquire: async () => { held = await acquire(id) }, release: () => release(held) }
        },
        close: () => redis.quit()
    }
}

export async function redisSemaphore (target) {
    const { Mutex } = require("redis-semaphore")
    const redis = await ioredisOf(target)
    return {
        lock: (id) => {
            const mutex = new Mutex(redis, `semaphore/${id}`, { acquireTimeout: 120_000, lockTimeout: TTL })
            return { acquire: () => mutex.acquire(), release: () => mutex.release() }
        },
        close: () => redis.quit()
    }
}

/* With a short lease that they renew by themselves, for a holder that does not come to itself for a while. */

const SHORT = 2_000

export async function redlock5Renewed (target) {
    const { default: Redlock } = await import("redlock5")
    const redis = await ioredisOf(target)
    const redlock = new Redlock([ redis ], PATIENT)
    return bySection(redis, (id, section) => redlock.using([ `redlock5/${id}` ], SHORT, { automaticExtensionThreshold: 1_000 }, section))
}

export async function sesamecareRenewed (target) {
    const { Redlock } = require("@sesamecare-oss/redlock")
    const redis = await ioredisOf(target)
    const redlock = new Redlock([ redis ], PATIENT)
    return bySection(redis, (id, section) => redlock.using([ `sesamecare/${id}` ], SHORT, { automaticExtensionThreshold: 1_000 }, section))
}

export async function redisSemaphoreRenewed (target) {
    const { Mutex } = require("redis-semaphore")
    const redis = await ioredisOf(target)
    return {
        lock: (id) => {
            const mutex = new Mutex(redis, `semaphore/${id}`,
                { acquireTimeout: 120_000, lockTimeout: SHORT, refreshInterval: 600, onLockLost: () => {} })
            return { acquire: () => mutex.acquire(), release: () => mutex.release() }
        },
        close: () => redis.quit()
    }
}

/** The critical section is a function there. */
function bySection (redis, run) {
    return {
        lock (id) {
            let leave, ended
            return {
                acquire: () => new Promise((resolve, reject) => {
                    ended = run(id, () => new Promise((end) => {
                        leave = end
                        resolve()
                    }))
                    ended.catch(reject)
                }),
                release: () => {
                    leave()
                    return ended
                }
            }
        },
        close: () => redis.quit()
    }
}
