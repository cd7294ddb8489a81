"use strict"

const net = require("node:net")
const os = require("node:os")
const util = require("node:util")
const native = require("../native.js")
const inherited = require("./inherited.js")

// The other side of src/binding/child.rs.

const [ EXITED, KILLED, STOPPED, INTERRUPTED, CONTINUED ] = [ 0, 1, 2, 3, 4 ]
/** What is meant to end a program, and has no effect on one that stands still. */
const ENDING = [ "SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM" ]
const NUMBERS = os.constants.signals
/** A signal's name; real-time signals have none. */
const nameOf = (number) => Object.keys(NUMBERS).find((name) => NUMBERS[name] === number) ?? number

/** A command in a process group of its own. */
class Command {
    #lock
    #end
    /** Whether it stands still, and whether that was asked for by a signal to this process. */
    #stopped = false
    #stopping = false

    static async start (file, args, lock, failure) {
        const isTerminal = require("node:tty").isatty
        const bits = inherited.ignored.reduce((set, name) => set | 1 << NUMBERS[name], 0)
        // A pipeline's other programs stay in our group and need the terminal as well: then the command gets it when it asks for it.
        const pipe = native.commandStart([ file, ...args ].join("\0"), String(lock.token), isTerminal(0) && isTerminal(1), bits,
            Int32Array.from(inherited.descriptors))
        if (pipe < 0)
            throw failure(util.getSystemErrorName(pipe))
        return new Command(pipe, lock)
    }

    constructor (pipe, lock) {
        this.#lock = lock
        this.ended = new Promise((resolve) => { this.#end = resolve })
        const events = new net.Socket({ fd: pipe, readable: true, writable: false })
        events.on("data", (bytes) => {
            for (let at = 0; at < bytes.length; at += 2)
                this.#hear(bytes[at], bytes[at + 1])
        })
        this.gone = new Promise((resolve) => events.once("close", resolve))
    }

    #hear (what, number) {
        switch (what) {
            case EXITED:      return this.#end({ code: number })
            case KILLED:      return this.#end({ name: nameOf(number), keyboard: false })
            case INTERRUPTED: return this.#end({ name: nameOf(number), keyboard: true })
            case STOPPED:     return this.#halt(number)
            case CONTINUED:   this.#stopped = false
        }
    }

    /** The command stands still, and this process too if the whole job is to. */
    #halt (number) {
        const forwarded = this.#stopping
        this.#stopping = false
        this.#stopped = true
        if (!native.commandStopped(number, forwarded))
            return
        // Time has passed. Without its lock it may not go on, and is ended by whoever hears of the loss.
        if (!this.#lock.signal.aborted)
            this.#continue()
    }

    #continue () {
        this.#stopped = false
        native.commandContinue()
    }

    /** Forwards a signal. */
    signal (name) {
        if (name === "SIGCONT") {
            if (this.#stopped)
                this.#continue()
            return
        }
        if (name === "SIGTSTP") {
            this.#stopping = true
            if (this.#stopped)
                return this.#halt(NUMBERS.SIGTSTP)
        }
        native.commandSignal(NUMBERS[name], false)
        // As timeout(1) does: whether some of the group stand still, nobody knows in time.
        if (ENDING.includes(name))
            this.#continue()
    }

    /** Sends a signal to all processes that come from the command, even to those that stand still. */
    end (name) {
        native.commandSignal(NUMBERS[name], true)
        native.commandSignal(NUMBERS.SIGCONT, true)
    }
}

module.exports = Command
