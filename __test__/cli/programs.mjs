// The package's commands as processes.
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { alive, descendants, signal } from "../support/processes.mjs"
import { guardProcess, unguard } from "../support/reaper.mjs"
import { waitFor } from "../support/waiting.mjs"

/** For the URLs of servers, so that no machine is too slow: a hold outlives a halt of many seconds, and so does a question. */
export const PATIENT = Object.freeze({ ttl: 30, connect_timeout: 30 })

const bin = (name) => fileURLToPath(new URL(`../../bin/${name}.js`, import.meta.url))

/** What of this process's environment must not decide about a test. */
const UNSET = Object.fromEntries([ "NODE_TEST_CONTEXT", "NODE_V8_COVERAGE", "IPC_MUTEX_URL", "PG_CONNECTION_STRING",
    ...Object.keys(process.env).filter((name) => name.startsWith("PG")) ].map((name) => [ name, undefined ]))

/**
 * Starts a command of the package; it ends with test `t`.
 *
 *     const job = start(t, "ipc-mutex", [ "exec", url, "--", "sh", "-c", "echo in; cat" ])
 *     await job.says("in")
 *     job.signal("SIGTERM")
 *     const { code, stdout, stderr } = await job.end()
 *
 * @param {object} t
 * @param {"ipc-mutex" | "withlock" | "pgmutex"} name
 * @param {string[]} args
 * @param {object} [options]
 * @param {Record<string, string>} [options.env] added to the environment
 * @param {string} [options.input] for its standard input
 * @param {boolean | ((line: string) => string)} [options.terminal] whether it runs on a (pseudo) terminal, all output being `stdout` then;
 *   a function makes the line that a shell runs there of the line that runs the command
 * @param {string[]} [options.by] the program that starts it, with its arguments
 * @param {string} [options.cwd]
 */
export function start (t, name, args, { env, input = "", terminal = false, by = [], cwd } = {}) {
    const words = [ ...by, process.execPath, bin(name), ...args ]
    const quoted = (word) => `'${word.replaceAll("'", "'\\''")}'`
    // `script` runs a shell; one that stayed would get the keyboard's signals too, and have an exit code of its own.
    const line = (typeof terminal === "function" ? terminal : (text) => `exec ${text}`)(words.map(quoted).join(" "))
    const [ file, ...rest ] = terminal ? [ "script", "-qefc", line, "/dev/null" ] : words
    const child = spawn(file, rest, { cwd, env: { ...process.env, ...UNSET, TERM: "xterm", SHELL: "/bin/sh", ...env } })
    const job = new Job(child)
    t.after(() => job.kill())
    child.stdin.on("error", () => {})
    if (!terminal)
        child.stdin.end(input)
    return job
}

/** Runs a command of the package to its end. */
export const run = (t, name, args, options) => start(t, name, args, options).end()

class Job {
    stdout = ""
    stderr = ""
    result
    #child
    #ended

    constructor (child) {
        this.#child = child
        guardProcess(child.pid)
        child.stdout.setEncoding("utf8").on("data", (text) => { this.stdout += text })
        child.stderr.setEncoding("utf8").on("data", (text) => { this.stderr += text })
        this.#ended = new Promise((resolve) => child.once("close", (code, signalName) => {
            unguard(child.pid)
            this.result = { code, signal: signalName, stdout: this.stdout, stderr: this.stderr }
            resolve(this.result)
        }))
    }

    get pid () { return this.#child.pid }
    get input () { return this.#child.stdin }

    /** Resolves when `text` (or what matches it) stands on standard output, or in the stream that is named. */
    async says (text, stream = "stdout") {
        await waitFor(() => text instanceof RegExp ? text.test(this[stream]) : this[stream].includes(text), {
            timeout: 60_000, what: () => `${text} on ${stream}; it has said: ${this.stdout}\n${this.stderr}`,
            hopeless: () => this.result !== undefined && !(text instanceof RegExp ? text.test(this[stream]) : this[stream].includes(text))
                && `it has ended with code ${this.result.code}`
        })
    }

    /** Reads its standard output no further. */
    hangUp () {
        this.#child.stdout.destroy()
    }

    signal (name) {
        signal(this.pid, name)
    }

    /** Resolves with `{ code, signal, stdout, stderr }` when it has ended. */
    async end ({ timeout = 60_000 } = {}) {
        await waitFor(() => this.result !== undefined, { timeout, what: () => `the program to end; it has said: ${this.stdout}\n${this.stderr}` })
        return this.#ended
    }

    async kill () {
        if (this.result === undefined) {
            // Stopped first, from the top, so that none of them has further children.
            const all = []
            for (let found = [ this.pid ]; found.length > 0; found = descendants(this.pid).filter((pid) => !all.includes(pid))) {
                for (const pid of found)
                    signal(pid, "SIGSTOP")
                all.push(...found)
            }
            for (const pid of all)
                signal(pid, "SIGKILL")
            await waitFor(() => all.every((pid) => !alive(pid)), { what: "the program to end" })
            await this.#ended
        }
    }
}
