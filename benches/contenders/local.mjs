// Locks within one thread.
import { createRequire } from "node:module"

const require = createRequire(import.meta.url)
const DONE = Promise.resolve()

/** What nobody can be quicker than who lets his caller await twice. */
export function floor () {
    return { excludes: false, lock: () => ({ acquire: () => DONE, release: () => DONE }) }
}

export function asyncMutex () {
    const { Mutex } = require("async-mutex")
    return { lock () {
        const mutex = new Mutex()
        return { acquire: () => mutex.acquire(), release: () => mutex.release() }
    } }
}

/** It takes the critical section as a function. */
export function asyncLock () {
    const AsyncLock = require("async-lock")
    return { lock () {
        const lock = new AsyncLock({ maxPending: Infinity })
        let leave
        return {
            acquire: () => new Promise((resolve) => {
                lock.acquire("bench", (done) => {
                    leave = done
                    resolve()
                })
            }),
            release: () => leave()
        }
    } }
}

export function mutexify () {
    const make = require("mutexify/promise")
    return { lock () {
        const lock = make()
        let leave
        return { acquire: async () => { leave = await lock() }, release: () => leave() }
    } }
}

export async function awaitLock () {
    const { default: AwaitLock } = await import("await-lock")
    return { lock () {
        const lock = new AwaitLock()
        return { acquire: () => lock.acquireAsync(), release: () => lock.release() }
    } }
}

export function lock () {
    const make = require("lock")
    return { lock () {
        const take = (make.Lock ?? make)()
        let leave
        return {
            acquire: () => new Promise((resolve) => {
                take("bench", (release) => {
                    leave = release()
                    resolve()
                })
            }),
            release: () => leave()
        }
    } }
}

/** Two threads throw a token to each other through a MessagePort; the main thread, which has none, only starts them. */
export function tokenByPort ({ port, first }) {
    let mine = first, waiting
    port?.on("message", () => {
        mine = true
        waiting?.()
    })
    return { lock: () => ({
        acquire: async () => {
            if (!mine)
                await new Promise((resolve) => { waiting = resolve })
            waiting = undefined
        },
        release: () => {
            mine = false
            port.postMessage(0)
        }
    }) }
}
