// One lock per record, within one thread: each contender runs a function under the lock of a name.
import { createRequire } from "node:module"
import * as redis from "./redis.mjs"

const require = createRequire(import.meta.url)

/** What nobody can be quicker than who lets his caller await once. */
export function floor () {
    return { excludes: false, under: async (name, fn) => fn() }
}

/** @param {{ url: string }} target of a manager */
export function ours ({ url }) {
    const { LockManager } = require("../../index.js")
    const locks = new LockManager(url)
    return { under: (name, fn) => locks.withLock(name, fn), close: () => locks.close() }
}

/** It forgets a key by itself. */
export function asyncLock () {
    const AsyncLock = require("async-lock")
    const lock = new AsyncLock({ maxPending: Infinity })
    return { under: (name, fn) => lock.acquire(name, fn) }
}

/** A mutex for each key, forgotten when nobody uses it, as its users write it. */
export function asyncMutex () {
    const { Mutex } = require("async-mutex")
    const mutexes = new Map()
    return { async under (name, fn) {
        let entry = mutexes.get(name)
        if (entry === undefined)
            mutexes.set(name, entry = { mutex: new Mutex(), users: 0 })
        entry.users++
        try {
            return await entry.mutex.runExclusive(fn)
        }
        finally {
            if (--entry.users === 0)
                mutexes.delete(name)
        }
    } }
}

/** Those of Node.js 24, which are the Web Locks API. */
export function webLocks () {
    const { locks } = require("node:worker_threads")
    return { under: (name, fn) => locks.request(name, fn) }
}

/** The same server for all of them. */
export function oursOnRedis (target) {
    return ours({ url: target.redis })
}

/** A lock of a package for each function, as its users make it for a key. */
async function byKey (connecting) {
    const { lock, close } = await connecting
    return { close, async under (name, fn) {
        const its = lock(name)
        await its.acquire()
        try {
            return await fn()
        }
        finally {
            await its.release()
        }
    } }
}

/** It cannot wait. */
export const socket = async (target) => ({ ...await byKey(redis.floor(target)), excludes: false })
export const redlock5 = (target) => byKey(redis.redlock5(target))
export const redisSemaphore = (target) => byKey(redis.redisSemaphore(target))
