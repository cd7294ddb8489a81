// One server process that this test process started: it ends with it, and is signalled by its own id only.
import { spawn } from "node:child_process"
import { once } from "node:events"
import { closeSync, openSync, readFileSync } from "node:fs"
import { alive, descendants, freeze, signal } from "../processes.mjs"
import { guardProcess, unguard } from "../reaper.mjs"
import { waitFor } from "../waiting.mjs"

export class Daemon {
    #child
    #paused = false

    /**
     * @param {object} how
     * @param {string} how.command @param {string[]} how.args @param {string} how.log a file for its output
     * @param {string} how.folder its working folder
     * @param {object} [how.account] `{ uid, gid }` to run as
     * @param {Record<string, string>} [how.env] added to the environment
     * @param {NodeJS.Signals} [how.gently] the signal that ends it in good order, SIGTERM by default
     * @param {number} [how.patience] milliseconds that it may take for that, 5000 by default
     */
    constructor (how) {
        this.how = { gently: "SIGTERM", patience: 5000, ...how }
    }

    /** Its process id, undefined when it does not run. */
    get pid () { return this.running ? this.#child.pid : undefined }
    get running () { return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null }

    /** What it has written so far, for messages: the last lines. */
    get output () {
        try {
            return readFileSync(this.how.log, "utf8").split("\n").slice(-15).join("\n")
        }
        catch {
            return ""
        }
    }

    async start () {
        if (this.running)
            throw new Error(`${this.how.command} already runs`)
        const log = openSync(this.how.log, "a")
        this.#paused = false
        this.#child = spawn(this.how.command, this.how.args, {
            ...this.how.account,
            cwd: this.how.folder,
            // no variable of the user's may lead the server astray
            env: { PATH: process.env.PATH, HOME: this.how.folder, LC_ALL: "C", TZ: "UTC", ...this.how.env },
            stdio: [ "ignore", log, log ],
            detached: true // a Ctrl+C at the terminal is for the tests; the reaper ends the servers
        })
        closeSync(log)
        this.#child.unref()
        await once(this.#child, "spawn")
        guardProcess(this.#child.pid, this.how.gently)
    }

    /** Ends it in good order; by force when its time for that is over. */
    async stop () {
        if (!this.running)
            return
        if (this.#paused)
            this.resume()
        signal(this.#child.pid, this.how.gently)
        const timer = setTimeout(() => { this.kill().catch(() => {}) }, this.how.patience)
        try {
            await this.#ended()
        }
        finally {
            clearTimeout(timer)
        }
    }

    /** Ends it and its children with SIGKILL, as a crash of the machine would. */
    async kill () {
        if (!this.running)
            return
        const all = await freeze(this.#child.pid)
        for (const each of all)
            signal(each, "SIGKILL")
        await this.#ended()
        await waitFor(() => all.every((each) => !alive(each)), { what: "killed processes to be gone" })
    }

    /** Stops it and its children with SIGSTOP: connections stay, nothing answers. */
    async pause () {
        this.#paused = true
        await freeze(this.#child.pid)
    }

    /** Undoes `pause()`. */
    resume () {
        this.#paused = false
        for (const pid of [ ...descendants(this.#child.pid), this.#child.pid ])
            signal(pid, "SIGCONT")
    }

    async #ended () {
        this.#child.ref()
        while (this.running)
            await once(this.#child, "exit")
        unguard(this.#child.pid)
    }
}
