// A real cluster under a test's command: one primary, any number of workers, and threads in each of them.
import { MutexError } from "../../lib/errors.js"
import { startChild } from "../support/children.mjs"

let calls = 0

/**
 * Starts a primary.
 * @param {object} t the context of the test
 * @param {object} [options]
 * @param {boolean} [options.load] whether the primary loads the package at once, true by default; otherwise `primary.do("load")`
 * @param {"json" | "advanced"} [options.serialization] of the cluster's channel
 * @param {object} [options.env] further variables of the environment, for the workers too
 * @returns {Promise<Actor>}
 */
export async function startPrimary (t, { load = true, serialization = "json", env } = {}) {
    const program = new URL("./programs/primary.mjs", import.meta.url)
    const child = await startChild(t, program, [ JSON.stringify({ load, settings: { serialization } }) ], { env })
    await child.message("ready")
    return new Actor(child, 0, child.pid)
}

/** Somebody who does what `programs/actor.mjs` can do: the primary, a worker, or a thread of one of them. */
class Actor {
    constructor (child, number, pid, threadName) {
        this.child = child
        this.number = number
        this.pid = pid
        this.threadName = threadName
    }

    /** Rejects with a MutexError of the same code and message as there. */
    async do (deed, ...args) {
        const call = `call ${++calls}`
        const order = this.threadName === undefined ? { deed, args } : { deed: "within", args: [ this.threadName, deed, ...args ] }
        const answer = this.child.message(call, { timeout: deed === "contend" ? 500_000 : 60_000 })
        const [ { error, result } ] = await Promise.all([ answer, this.child.send({ call, to: this.number, ...order }) ])
        if (error !== undefined)
            throw new MutexError(error.code, error.message)
        return result
    }

    /** Orders something without an answer: one that waits, or that ends the actor. */
    order (deed, ...args) {
        const done = this.do(deed, ...args)
        done.catch(() => {})
        return done
    }

    /** Only a primary can: a new worker. */
    async fork (program = "worker.mjs") {
        const { number, pid } = await this.do("fork", `./${program}`)
        return new Actor(this.child, number, pid)
    }

    /** A new thread of this process. */
    async thread (name) {
        await this.do("thread", name)
        return new Actor(this.child, this.number, this.pid, name)
    }

    /** The end of this worker, as the primary saw it: `{ code, signal }`. */
    ended () {
        return this.child.message(`exit ${this.number}`)
    }
}
