"use strict"

const { bySignal } = require("./exit.js")
const inherited = require("./inherited.js")

/** What may be sent to a program to make it do something, or end. */
const SIGNALS = [ "SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGIO", "SIGPWR" ]
/** What does not end a program, and is of interest only while there is a command. */
const HARMLESS = [ "SIGTSTP", "SIGCONT", "SIGWINCH" ]

/**
 * The signals that this process gets: before a command runs they end the wait, then they are the command's.
 */
class Signals {
    #ending = new AbortController()
    /** The first signal that came before there was a command. */
    #early
    #child

    /** The names of all that have been passed on to the command. */
    forwarded = new Set()

    constructor () {
        for (const name of SIGNALS)
            this.#listen(name, inherited.ignored.includes(name) ? () => {} : () => this.#take(name))
    }

    #listen (name, listener) {
        try {
            process.on(name, listener)
        }
        catch {
            // This system has no such signal.
        }
    }

    /** Aborts, with an `Exit` as its reason, when a signal comes before there is a command. */
    get ending () {
        return this.#ending.signal
    }

    /** Settles as `promise`, but rejects as soon as a signal comes, or so many milliseconds after it. */
    async orEnd (promise, patience = 0) {
        const { signal } = this.#ending
        let onabort
        const ended = new Promise((_, reject) => {
            onabort = () => patience > 0 ? setTimeout(reject, patience, signal.reason) : reject(signal.reason)
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

    /** From now on signals are for this command; one that came while it was being started, too. */
    forwardTo (child) {
        this.#child = child
        if (process.platform !== "win32")
            for (const name of HARMLESS)
                this.#listen(name, () => this.#take(name))
        if (this.#early !== undefined)
            this.#take(this.#early)
    }

    /** From now on signals end what is still to be done. */
    commandOver () {
        this.#child = undefined
    }

    #take (name) {
        if (this.#child === undefined) {
            this.#early ??= name
            this.#ending.abort(bySignal(name))
        }
        else {
            this.forwarded.add(name)
            this.#child.signal(name)
        }
    }
}

module.exports = { Signals }
