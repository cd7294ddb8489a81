"use strict"

const { EXIT, Exit, bySignal } = require("./exit.js")

/** How often processes that are to be killed are looked for, in milliseconds: one may have started another one meanwhile. */
const AGAIN = 100
/** How long after the command's end the processes that it has left behind are worth a word, in milliseconds. */
const PATIENCE = 10_000

/**
 * Runs a command while a lock is held, with this process's standard streams, and ends it when the lock is lost.
 *
 * @param {object} job
 * @param {string[]} job.command the program and its arguments; no shell is involved
 * @param {import("../../index.js").Lock} job.lock
 * @param {number} job.grace how long after SIGTERM processes that run without their lock get SIGKILL, in milliseconds
 * @param {boolean} job.close whether processes that the command has started may outlive it
 * @param {import("./signals.js").Signals} job.signals
 * @param {import("./say.js").Speaker} job.speaker
 * @returns {Promise<Exit>} how the command has ended; with `EXIT.LOST` if its lock was lost
 * @throws {Exit} if it cannot be started, or a signal came before it was
 */
async function runCommand ({ command, lock, grace, close, signals, speaker }) {
    const { signal } = lock
    if (signal.aborted)
        throw signal.reason
    signals.ending.throwIfAborted()
    const child = await start(command, lock)
    signals.forwardTo(child)
    let timer
    const kill = () => {
        child.end("SIGKILL")
        timer = setInterval(() => child.end("SIGKILL"), AGAIN)
        speaker.say(`not all processes of the command have ended within ${grace / 1000} s; what is left is killed`)
    }
    const onlost = () => {
        child.end("SIGTERM")
        timer = setTimeout(kill, grace)
        speaker.say(`${signal.reason.message}; the command is told to end`)
    }
    signal.addEventListener("abort", onlost, { once: true })
    if (signal.aborted)
        onlost()
    const { code, name, keyboard } = await child.ended
    if (!close || signal.aborted) {
        const behind = setTimeout(() => {
            if (!signal.aborted)
                speaker.say("the command has ended, but not all that it has started; the lock is held until that ends (see --close)")
        }, PATIENCE)
        await child.gone
        clearTimeout(behind)
    }
    clearTimeout(timer)
    signal.removeEventListener("abort", onlost)
    if (signal.aborted)
        return new Exit(EXIT.LOST)
    return name === undefined ? new Exit(code) : bySignal(name, keyboard && !signals.forwarded.has(name))
}

/**
 * @returns {Promise<{ ended: Promise<object>, gone: Promise<void>, signal: (name: string) => void, end: (name: string) => void }>} `ended`
 *   with the command, `gone` with all that it has started; `signal` forwards to the group, `end` sends to everybody
 */
function start ([ file, ...args ], lock) {
    const Command = process.platform === "win32" ? require("./command-windows.js") : require("./command-unix.js")
    return Command.start(file, args, lock, (code) => cannotStart(file, code))
}

function cannotStart (file, code) {
    switch (code) {
        case "ENOENT": return new Exit(EXIT.NOT_FOUND, `${file}: command not found`)
        case "EACCES": return new Exit(EXIT.NOT_EXECUTABLE, `${file}: permission denied`)
        // Windows runs scripts such as npm.cmd by its command processor only.
        case "EINVAL": return new Exit(EXIT.NOT_EXECUTABLE, `${file}: not an executable program; run a script as: cmd /c ${file}`)
        default:       return new Exit(EXIT.NOT_EXECUTABLE, `${file}: cannot be executed: ${code}`)
    }
}

module.exports = { runCommand }
