// A worker thread that runs laned.mjs. What it says is kept until it is asked for: messages, errors and the end come by ports of
// their own, in any order, and while the test does something else.
import { Worker } from "node:worker_threads"

/**
 * Starts a thread that ends with test `t`, which fails if the thread does.
 *
 * @param {object} t the context of a test
 * @param {string} url @param {string} act see laned.mjs
 * @param {object} [data] what else the act wants
 * @returns {LanedThread}
 */
export function lanedThread (t, url, act, data = {}) {
    const thread = new LanedThread({ url, act, ...data })
    t.after(async () => {
        await thread.terminate()
        if (thread.error !== undefined)
            throw thread.error
    })
    return thread
}

class LanedThread {
    /** What it has failed with. */
    error
    /** Resolves when it has ended. */
    ended
    #worker
    #said = []
    #wanted = []
    #isOver = false

    constructor (workerData) {
        this.#worker = new Worker(new URL("./laned.mjs", import.meta.url), { workerData })
        this.#worker.on("message", (message) => {
            this.#said.push(message)
            this.#give()
        })
        this.#worker.on("error", (error) => { this.error = error })
        this.ended = new Promise((resolve) => this.#worker.once("exit", () => {
            this.#isOver = true
            this.#give()
            resolve()
        }))
    }

    /** Resolves with the next message, which must have that name. Fails when the thread has ended without one. */
    async message (name) {
        const message = await new Promise((resolve, reject) => {
            this.#wanted.push({ resolve, reject })
            this.#give()
        })
        if (message.name !== name)
            throw new Error(`the thread has said "${message.name}" and not "${name}"`)
        return message
    }

    send (message) {
        this.#worker.postMessage(message)
    }

    async terminate () {
        await this.#worker.terminate()
    }

    #give () {
        while (this.#wanted.length > 0 && this.#said.length > 0)
            this.#wanted.shift().resolve(this.#said.shift())
        if (this.#isOver)
            for (const { reject } of this.#wanted.splice(0))
                reject(this.error ?? new Error("the thread has ended without a word"))
    }
}
