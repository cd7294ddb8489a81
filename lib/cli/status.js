"use strict"

const { setTimeout: sleep } = require("node:timers/promises")
const args = require("./arguments.js")
const { EXIT, Exit, unwritten, usage, verdict } = require("./exit.js")
const { Signals } = require("./signals.js")
const { url } = require("./exec.js")
const { json, table } = require("./report.js")
const help = require("./help.js")

/** How often `--watch` looks, in milliseconds. */
const PERIOD = 1000
const CLEAR_SCREEN = "\x1b[H\x1b[2J"

/** `ipc-mutex status <url> [--json] [--watch]` */
const status = {
    name: "ipc-mutex",
    help: help.STATUS,
    read (given, speaker) {
        const { before, command } = args.atDashes(given)
        const { values, positionals } = args.parse(before, { json: { type: "boolean" }, watch: { type: "boolean" } })
        return {
            values,
            run: async () => {
                if (command !== undefined)
                    throw usage("status runs no command (see --help)")
                return show(url(positionals), values, speaker)
            }
        }
    }
}

async function show (text, { json: asJson = false, watch = false }, speaker) {
    const Mutex = require("../../index.js")
    if (/^[sm]pm:/.test(text))
        throw usage(`the lock ${text.slice(0, 4)} is known to its own processes only: status needs a lock that others can see, lpm:... or rpm+...`)
    const mutex = new Mutex(text)
    const signals = new Signals()
    const write = writer()
    await signals.orEnd(mutex.open())
    const render = asJson ? json : table
    if (!watch)
        await write(render(mutex.id, await signals.orEnd(mutex.query())))
    else
        await follow(mutex, render, { asJson, signals, speaker, write })
    await mutex.close().catch(() => {})
    return new Exit(EXIT.OK)
}

/** Shows the lock again and again, until a signal comes: on a terminal all the time, elsewhere when something has changed. */
async function follow (mutex, render, { asJson, signals, speaker, write }) {
    const screen = process.stdout.isTTY && !asJson
    let before
    for (;;) {
        try {
            const snapshot = await signals.orEnd(mutex.query())
            const state = json(mutex.id, snapshot)
            if (screen || state !== before)
                await write(`${screen ? CLEAR_SCREEN : before === undefined || asJson ? "" : "\n"}${render(mutex.id, snapshot)}`)
            before = state
        }
        catch (error) {
            if (error instanceof Exit)
                throw error
            // It is worth saying once, and watching on: servers come back.
            const { message } = verdict(error)
            if (before !== message)
                speaker.say(message)
            before = message
        }
        await signals.orEnd(sleep(PERIOD))
    }
}

/** Writes to standard output. What cannot be written ends the program. */
function writer () {
    process.stdout.on("error", () => {})
    return (text) => new Promise((resolve, reject) => process.stdout.write(text, (error) => error ? reject(unwritten(error)) : resolve()))
}

module.exports = { status }
