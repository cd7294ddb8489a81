"use strict"

const { spawn } = require("node:child_process")
const { EXIT, Exit, bySignal } = require("./exit.js")
const { span } = require("./words.js")

/**
 * Runs a command while a lock is held, with this process's standard streams, and ends it when the lock is lost.
 *
 * @param {object} job
 * @param {string[]} job.command the program and its arguments; no shell is involved
 * @param {import("../../index.js").Lock} job.lock
 * @param {number} job.killAfter how long after SIGTERM a command that runs without its lock gets SIGKILL, in milliseconds
 * @param {import("./signals.js").Signals} job.signals
 * @param {import("./say.js").Speaker} job.speaker
 * @returns {Promise<number>} the command's exit code, 128 + n if signal n ended it; `EXIT.LOST` if its lock was lost
 * @throws {Exit} if it cannot be started, or a signal came before it was
 */
async function runCommand ({ command: [ file, ...args ], lock, killAfter, signals, speaker }) {
    const { signal } = lock
    if (signal.aborted)
        throw signal.reason
    signals.ending.throwIfAborted()
    const child = await start(file, args, { ...process.env, IPC_MUTEX_TOKEN: String(lock.token) })
    signals.forwardTo(child)
    let timer
    const onlost = () => {
        speaker.say(`${signal.reason.message}; the command is told to end`)
        child.kill("SIGTERM")
        timer = setTimeout(() => {
            speaker.say(`the command has not ended within ${span(killAfter)}; it is killed`)
            child.kill("SIGKILL")
        }, killAfter)
    }
    signal.addEventListener("abort", onlost, { once: true })
    if (signal.aborted)
        onlost()
    const { code, name } = await child.ended
    clearTimeout(timer)
    signal.removeEventListener("abort", onlost)
    return signal.aborted ? EXIT.LOST : code ?? bySignal(name)
}

/** A process that has truly started. */
async function start (file, args, env) {
    let child
    try {
        child = spawn(file, args, { stdio: "inherit", env })
    }
    catch (error) {
        throw cannotStart(file, error)
    }
    child.ended = new Promise((resolve) => child.once("exit", (code, name) => resolve({ code, name })))
    await new Promise((resolve, reject) => {
        child.once("spawn", resolve)
        child.once("error", (error) => reject(cannotStart(file, error)))
    })
    // A signal that comes too late to be delivered.
    child.on("error", () => {})
    return child
}

function cannotStart (file, { code, message }) {
    switch (code) {
        case "ENOENT": return new Exit(EXIT.NOT_FOUND, `${file}: command not found`)
        case "EACCES": return new Exit(EXIT.NOT_EXECUTABLE, `${file}: permission denied`)
        // Windows runs scripts such as npm.cmd by its command processor only.
        case "EINVAL": return new Exit(EXIT.NOT_EXECUTABLE, `${file}: not an executable program; run a script as: cmd /c ${file}`)
        default:       return new Exit(EXIT.NOT_EXECUTABLE, `${file}: cannot be executed: ${code ?? message}`)
    }
}

module.exports = { runCommand }
