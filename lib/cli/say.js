"use strict"

const fs = require("node:fs")
const tty = require("node:tty")

/** Text from elsewhere in one line, without what could steer a terminal. */
const oneLine = (text) => text.replace(/\s*[\r\n]+\s*/g, " ").replace(/\p{Cc}/gu, "?").trim()

/**
 * Our own words: lines on standard error, each with the program's name, so that standard output is the command's alone.
 */
class Speaker {
    /** @param {string} program how the lines begin */
    constructor (program) {
        this.program = program
        // Not by process.stderr, which would change how the command's standard error behaves where that is a pipe.
        this.#terminal = tty.isatty(2)
    }

    #terminal
    #status = false

    /** Whether somebody is watching who likes to know how the wait goes. */
    get isTerminal () {
        return this.#terminal
    }

    /** A line that stays. */
    say (text) {
        this.clear()
        write(`${this.program}: ${oneLine(text)}\n`)
    }

    /** A line that the next one replaces; on a terminal only. */
    status (text) {
        if (!this.#terminal)
            return
        const width = (process.stderr.columns ?? 80) - 1
        const line = `${this.program}: ${oneLine(text)}`
        write(`\r\x1b[K${line.length > width ? `${line.slice(0, width - 1)}…` : line}`)
        this.#status = true
    }

    /** Takes the replaceable line away. */
    clear () {
        if (this.#status)
            write("\r\x1b[K")
        this.#status = false
    }
}

/** At once, so that nothing comes after the command's first output; a reader who has gone is no reason to fail. */
function write (text) {
    try {
        fs.writeSync(2, text)
    }
    catch {
        // There is nobody to tell.
    }
}

module.exports = { Speaker, oneLine }
