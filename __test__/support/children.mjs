// Child programs of tests: started with a script and arguments, awaited by what they say, never left behind.
import { fork } from "node:child_process"
import { AssertionError } from "node:assert"
import { alive, freeze, signal, state } from "./processes.mjs"
import { guardProcess, unguard } from "./reaper.mjs"
import { waitFor } from "./waiting.mjs"

export { waitFor }

const living = new Set()

/** The children of this process that `startChild` started and that have not ended. */
export function survivors () {
    return [ ...living ]
}

/**
 * Starts a Node program that ends with test `t`, by force if need be.
 *
 *     const child = await startChild(t, new URL("./holder.mjs", import.meta.url), [ url ])
 *     await child.message("held")
 *     await child.kill("SIGKILL")
 *
 * The program says `process.send("held")` or `process.send({ name: "held", ... })`, and listens with
 * `process.on("message", ...)` for what `child.send(...)` gives it. Should the test process die, it is killed.
 *
 * @param {object | undefined} t the context of a test or the function `after`; without it the caller ends the child
 * @param {string | URL} script a file, or an ES module as a URL `data:text/javascript,...`; its arguments begin at
 *   `process.argv[2]` in both cases
 * @param {string[]} [args]
 * @param {object} [options]
 * @param {Record<string, string>} [options.env] added to the environment
 * @param {string} [options.execPath] what to start; Node by default
 * @param {string[]} [options.execArgv] its options, before the program
 * @param {string} [options.cwd]
 * @param {"json" | "advanced"} [options.serialization] "advanced" by default: bigints and typed arrays may be sent
 * @returns {Promise<Child>} when the process exists
 */
export async function startChild (t, script, args = [], options = {}) {
    const child = new Child(script, args, options)
    const after = t?.after ?? t
    after?.call(t, () => child.end())
    await child.spawned
    return child
}

class Child {
    /** What it has written to its standard output and error output. */
    stdout = ""
    stderr = ""
    /** `{ code, signal }` once it has ended, undefined before. */
    result
    /** Resolves with `result` when it has ended and its output is complete. */
    exited
    spawned
    #process
    #messages = []
    #waiting = new Set()

    constructor (script, args, { env, execPath = process.execPath, execArgv = [], cwd, serialization = "advanced" }) {
        this.script = String(script)
        const inline = this.script.startsWith("data:")
        const entry = inline ? [ "--input-type=module", "--eval", `await import(${JSON.stringify(this.script)})` ] : []
        this.#process = fork(inline ? "" : script, args, {
            execPath, execArgv: [ ...execArgv, ...entry ], cwd, serialization, stdio: [ "ignore", "pipe", "pipe", "ipc" ],
            // the runner's own variable would turn the program into a test file
            env: { ...process.env, NODE_TEST_CONTEXT: undefined, NODE_V8_COVERAGE: undefined, ...env }
        })
        living.add(this)
        this.spawned = new Promise((resolve, reject) => {
            this.#process.once("spawn", resolve)
            this.#process.once("error", reject)
        })
        this.#process.on("error", () => {}) // a failed send or kill shows in what the test waits for
        if (this.#process.pid !== undefined)
            guardProcess(this.#process.pid)
        this.#process.stdout.setEncoding("utf8").on("data", (text) => { this.stdout += text })
        this.#process.stderr.setEncoding("utf8").on("data", (text) => { this.stderr += text })
        this.#process.on("message", (message) => {
            const name = typeof message === "object" && message !== null ? message.name : message
            const waiting = [ ...this.#waiting ].find((each) => each.name === name)
            if (waiting)
                waiting.resolve(message)
            else
                this.#messages.push({ name, message })
        })
        this.exited = new Promise((resolve) => {
            this.#process.once("close", (code, signalName) => {
                this.result = { code, signal: signalName }
                living.delete(this)
                unguard(this.pid)
                for (const waiting of [ ...this.#waiting ])
                    waiting.reject(this.#failure(`has ended without saying "${waiting.name}"`))
                resolve(this.result)
            })
        })
    }

    get pid () { return this.#process.pid }

    /**
     * Resolves with the next message named `name` that has not been taken yet, be it the text itself or an object with
     * that `name`. Fails when the child ends before, or after `timeout` (60,000) milliseconds.
     */
    message (name, { timeout = 60_000 } = {}) {
        const at = this.#messages.findIndex((entry) => entry.name === name)
        if (at >= 0)
            return Promise.resolve(this.#messages.splice(at, 1)[0].message)
        if (this.result !== undefined)
            return Promise.reject(this.#failure(`has ended without saying "${name}"`))
        return new Promise((resolve, reject) => {
            const settle = (action) => (value) => {
                clearTimeout(timer)
                this.#waiting.delete(waiting)
                action(value)
            }
            const waiting = { name, resolve: settle(resolve), reject: settle(reject) }
            const timer = setTimeout(() => waiting.reject(this.#failure(`has not said "${name}" within ${timeout} ms`)), timeout)
            this.#waiting.add(waiting)
        })
    }

    /** Whether a message of that name has come and was not taken yet. */
    has (name) {
        return this.#messages.some((entry) => entry.name === name)
    }

    /** Sends it a message; fails when it cannot be delivered. */
    send (message) {
        return new Promise((resolve, reject) => this.#process.send(message, (error) => error ? reject(error) : resolve()))
    }

    /** Cuts the channel. */
    disconnect () {
        if (this.#process.connected)
            this.#process.disconnect()
    }

    /** Sends a signal and resolves with `{ code, signal }` when it has ended. */
    async kill (name = "SIGKILL", { timeout = 60_000 } = {}) {
        signal(this.pid, name)
        return await this.exit({ timeout })
    }

    /** Stops it with SIGSTOP, and resolves when it truly stands still. */
    async pause () {
        signal(this.pid, "SIGSTOP")
        await waitFor(() => [ "T", undefined ].includes(state(this.pid)), { what: `child ${this.pid} to stop` })
    }

    /** Lets it go on. */
    resume () {
        signal(this.pid, "SIGCONT")
    }

    /** Resolves with `{ code, signal }` when it ends by itself; fails after `timeout` (60,000) milliseconds. */
    async exit ({ timeout = 60_000 } = {}) {
        let timer
        const late = new Promise((_, reject) => {
            timer = setTimeout(() => reject(this.#failure(`has not ended within ${timeout} ms`)), timeout)
        })
        try {
            return await Promise.race([ this.exited, late ])
        }
        finally {
            clearTimeout(timer)
        }
    }

    /** As `exit`, and fails unless it ended with code 0. */
    async success (options) {
        const { code } = await this.exit(options)
        if (code !== 0)
            throw this.#failure("has failed")
    }

    /** Ends it and its own children by force; nothing happens when it has ended. */
    async end () {
        if (this.result === undefined) {
            const all = await freeze(this.pid)
            for (const pid of all)
                signal(pid, "SIGKILL")
            await waitFor(() => all.every((pid) => !alive(pid)), { what: "child processes to end" })
            await this.exited
        }
    }

    #failure (what) {
        const { code, signal: name } = this.result ?? {}
        const end = this.result === undefined ? "it still runs" : `exit code ${code}, signal ${name}`
        const output = `its error output:\n${this.stderr}${this.stdout && `\nits output:\n${this.stdout}`}`
        return new AssertionError({ message: `child ${this.pid} (${this.script.slice(0, 200)}) ${what}; ${end}; ${output}` })
    }
}
