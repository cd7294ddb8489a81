// Starts and asks the processes in which contenders are measured.
import { fork } from "node:child_process"
import { fileURLToPath } from "node:url"

const script = fileURLToPath(new URL("./agent.mjs", import.meta.url))
const LIMIT = 120_000

export class Agent {
    #process
    #calls = new Map()
    #words = new Map()
    #last = 0
    #stderr = ""

    constructor (contender, target) {
        this.contender = contender
        this.#process = fork(script, [ JSON.stringify({ contender, target }) ],
            { execPath: contender.node ?? process.execPath, execArgv: [ "--expose-gc", "--no-deprecation" ], serialization: "advanced",
                stdio: [ "ignore", "inherit", "pipe", "ipc" ] })
        this.#process.stderr.setEncoding("utf8").on("data", (text) => { this.#stderr += text })
        this.#process.on("message", ({ call, result, error, word }) => {
            if (word !== undefined)
                return this.#words.get(word)?.()
            const waiting = this.#calls.get(call)
            this.#calls.delete(call)
            if (error === undefined)
                waiting?.resolve(result)
            else
                waiting?.reject(new Error(`${contender.name}: ${error}`))
        })
        this.exited = new Promise((resolve) => this.#process.once("exit", resolve))
        this.exited.then((code) => {
            for (const { reject } of this.#calls.values())
                reject(new Error(`${contender.name}: ended with code ${code}\n${this.#stderr}`))
        })
    }

    get pid () { return this.#process.pid }

    /** Runs a workload there, and gives its result. */
    call (method, argument = {}) {
        return new Promise((resolve, reject) => {
            const call = ++this.#last
            const timer = setTimeout(() => settle(reject)(new Error(`${this.contender.name}: ${method} took longer than ${LIMIT} ms`)), LIMIT)
            const settle = (action) => (value) => {
                clearTimeout(timer)
                this.#calls.delete(call)
                action(value)
            }
            this.#calls.set(call, { resolve: settle(resolve), reject: settle(reject) })
            this.#process.send({ call, method, argument })
        })
    }

    /** Resolves when it says so, `{ word }`, in the middle of a workload. To be asked for before. */
    said (word) {
        return new Promise((resolve) => { this.#words.set(word, resolve) })
    }

    async end () {
        if (this.#process.connected)
            this.#process.disconnect()
        const timer = setTimeout(() => this.#process.kill("SIGKILL"), 3000)
        await this.exited
        clearTimeout(timer)
    }
}

/** Runs `action` with so many fresh processes that have connected, and ends them. */
export async function withAgents (count, contender, target, action) {
    const agents = Array.from({ length: count }, () => new Agent(contender, target))
    try {
        await Promise.all(agents.map((agent) => agent.call("open")))
        const result = await action(...agents)
        await Promise.all(agents.map((agent) => agent.call("close")))
        return result
    }
    finally {
        await Promise.all(agents.map((agent) => agent.end()))
    }
}
