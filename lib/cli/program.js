"use strict"

const { EXIT, verdict } = require("./exit.js")
const { Speaker } = require("./say.js")
const { version } = require("../../package.json")

/**
 * Runs a command to its end: whatever it throws becomes one line on standard error and an exit code. What needs the addon is
 * loaded by `run`, so that a missing one is such a line as well, and `--help` always answers.
 *
 * @param {object} program
 * @param {string} program.name as it begins every line on standard error
 * @param {string} program.help what `--help` prints
 * @param {(args: string[], speaker: Speaker) => { values: object, run: () => Promise<number> }} program.read reads the arguments;
 *   `run` is called unless `--help` or `--version` is among the `values`
 * @param {string[]} args
 */
async function main ({ name, help, read }, args) {
    const speaker = new Speaker(name)
    process.on("uncaughtException", (error) => end(error, speaker))
    process.removeAllListeners("warning")
    process.on("warning", ({ name: kind, message }) => {
        if (kind === "MutexWarning")
            speaker.say(message)
    })
    let code
    try {
        const { values, run } = read(args, speaker)
        code = values.help ? print(help) : values.version ? print(`${name} ${version}\n`) : await run()
    }
    catch (error) {
        return end(error, speaker)
    }
    // Nothing that is still under way, such as a question to a server that does not answer, matters any more.
    process.exit(code)
}

/** The last words. */
function end (error, speaker) {
    const { code, message } = verdict(error)
    if (message !== "")
        speaker.say(message)
    process.exit(code)
}

/** Writes to standard output, all of it. */
function print (text) {
    require("node:fs").writeSync(1, text)
    return EXIT.OK
}

module.exports = { main }
