"use strict"

const { Exit, bySignal } = require("./exit.js")

/** What may be sent to a program to make it do something, or end. */
const SIGNALS = [ "SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2" ]
/** What a terminal sends to all programs in its foreground at once. */
const FROM_TERMINAL = new Set([ "SIGINT", "SIGQUIT" ])

/**
 * The signals that this process gets: before a command runs they end the wait, then they are the command's.
 */
class Signals {
    #ending = new AbortController()
    /** The first signal that came before there was a command. */
    #early
    #child
    #atTerminal = Boolean(process.stdin.isTTY)

    constructor () {
        for (const name of SIGNALS)
            try {
                process.on(name, () => this.#take(name))
            }
            catch {
                // This system has no such signal.
            }
    }

    /** Aborts, with an `Exit` as its reason, when a signal comes before there is a command. */
    get ending () {
        return this.#ending.signal
    }

    /** Settles as `promise`, but rejects as soon as a signal comes. */
    async orEnd (promise) {
        const { signal } = this.#ending
        let onabort
        const ended = new Promise((_, reject) => {
            onabort = () => reject(signal.reason)
            if (signal.aborted)
                onabort()
            else
                signal.addEventListener("abort", onabort, { once: true })
        })
        try {
            return await Promise.race([ ended, promise ])
        }
        finally {
            signal.removeEventListener("abort", onabort)
        }
    }

    /** From now on signals are for this process; one that came while it was being started, too. */
    forwardTo (child) {
        this.#child = child
        if (this.#early !== undefined)
            child.kill(this.#early)
    }

    #take (name) {
        if (this.#child === undefined) {
            this.#early ??= name
            this.#ending.abort(new Exit(bySignal(name)))
        }
        // The command has got what came from the keyboard by itself; twice means something else to many programs.
        else if (!(this.#atTerminal && FROM_TERMINAL.has(name)))
            this.#child.kill(name)
    }
}

module.exports = { Signals }
