"use strict"

// First, before anything is opened.
require("./inherited.js")
const { EXIT, Exit, unwritten, verdict } = require("./exit.js")
const { Speaker } = require("./say.js")
const { version } = require("../../package.json")

/**
 * Runs a command to its end: whatever it throws becomes one line on standard error and an exit code. What needs the addon is
 * loaded by `run`, so that a missing one is such a line as well, and `--help` always answers.
 *
 * @param {object} program
 * @param {string} program.name as it begins every line on standard error
 * @param {string} program.help what `--help` prints
 * @param {(args: string[], speaker: Speaker) => { values: object, run: () => Promise<Exit> }} program.read reads the arguments;
 *   `run` is called unless `--help` or `--version` is among the `values`
 * @param {string[]} args
 */
async function main ({ name, help, read }, args) {
    const speaker = new Speaker(name, isWritable)
    process.on("uncaughtException", (error) => leave(error, speaker))
    process.removeAllListeners("warning")
    process.on("warning", ({ name: kind, message }) => {
        if (kind === "MutexWarning")
            speaker.say(message)
    })
    let end
    try {
        const { values, run } = read(args, speaker)
        end = values.help ? print(help) : values.version ? print(`${name} ${version}\n`) : await run()
    }
    catch (error) {
        end = error
    }
    leave(end, speaker)
}

/** The last words. Nothing that is still under way, such as a question to a server that does not answer, matters any more. */
function leave (error, speaker) {
    const { code, message, signal, wholeGroup } = verdict(error)
    if (message !== "")
        speaker.say(message)
    speaker.finish()
    // Nothing ends the first process of a system or container by default.
    if (signal !== undefined && process.pid !== 1 && process.platform !== "win32")
        require("../native.js").dieOfSignal(signal, wholeGroup)
    process.exit(code)
}

/** Whether a write would return at once; without the addon, nobody knows. */
function isWritable (descriptor) {
    try {
        return require("../native.js").isWritable?.(descriptor) ?? true
    }
    catch {
        return true
    }
}

/** Writes to standard output, all of it. */
function print (text) {
    try {
        require("node:fs").writeSync(1, text)
        return new Exit(EXIT.OK)
    }
    catch (error) {
        return unwritten(error)
    }
}

module.exports = { main }
