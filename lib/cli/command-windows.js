"use strict"

const { spawn } = require("node:child_process")

/** A command. The lock lasts as long as it does itself. */
class Command {
    #child

    static async start (file, args, lock, failure) {
        let child
        try {
            child = spawn(file, args, { stdio: "inherit", env: { ...process.env, IPC_MUTEX_TOKEN: String(lock.token) } })
            const command = new Command(child)
            await new Promise((resolve, reject) => child.once("spawn", resolve).once("error", reject))
            return command
        }
        catch ({ code, message }) {
            throw failure(code ?? message)
        }
    }

    constructor (child) {
        this.#child = child
        this.ended = new Promise((resolve) => child.once("exit", (code, name) => resolve({ code, name: name ?? undefined })))
        this.gone = this.ended
        // A signal that comes too late to be delivered.
        child.on("error", () => {})
    }

    signal (name) {
        this.#child.kill(name)
    }

    /** Ends it and all that has come from it, as far as each parent is still there. */
    end () {
        spawn("taskkill", [ "/pid", String(this.#child.pid), "/t", "/f" ], { stdio: "ignore" }).on("error", () => this.#child.kill())
    }
}

module.exports = Command
