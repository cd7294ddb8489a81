"use strict"

const util = require("node:util")
const { usage } = require("./exit.js")

/** Options of every command. `-v` is the version too, as with Node.js, unless a command uses it for something else. */
const EVERYWHERE = { help: { type: "boolean", short: "h" }, version: { type: "boolean", short: "V" } }

/**
 * Reads options and positional arguments.
 * @param {string[]} args
 * @param {import("node:util").ParseArgsConfig["options"]} options
 * @returns {{ values: Record<string, string | boolean>, positionals: string[] }}
 * @throws {Exit} of usage
 */
function parse (args, options) {
    if (util.parseArgs === undefined)
        throw usage("the commands need Node.js 18.3 or newer")
    if (!Object.values(options).some(({ short }) => short === "v"))
        args = args.map((arg) => arg === "-v" ? "-V" : arg)
    try {
        return util.parseArgs({ args, options: { ...EVERYWHERE, ...options }, allowPositionals: true, strict: true })
    }
    catch (error) {
        if (!String(error.code).startsWith("ERR_PARSE_ARGS"))
            throw error
        // What follows the first sentence is advice for another situation, and goes over several lines.
        const [ sentence ] = error.message.split(/\.(?:\s|$)|\n/)
        throw usage(`${sentence[0].toLowerCase()}${sentence.slice(1)} (see --help)`)
    }
}

/**
 * What stands before `--`, and behind it.
 * @param {string[]} args
 * @returns {{ before: string[], command: string[] | undefined }} `command` is undefined where there is no `--`
 */
function atDashes (args) {
    const index = args.indexOf("--")
    return index < 0 ? { before: args, command: undefined } : { before: args.slice(0, index), command: args.slice(index + 1) }
}

/**
 * The options at the beginning, and the command that follows them with or without `--`.
 * @param {string[]} args
 * @param {string[]} withValue options that take the next argument, as they are written: `--db`
 */
function atCommand (args, withValue) {
    let index = 0
    while (index < args.length && args[index].startsWith("-") && args[index] !== "--" && args[index] !== "-")
        index += withValue.includes(args[index]) ? 2 : 1
    return { before: args.slice(0, index), command: args.slice(args[index] === "--" ? index + 1 : index) }
}

/**
 * A number of seconds such as `5` or `0.5`.
 * @param {string | undefined} text
 * @param {string} option how the option is written
 * @returns {number | undefined} milliseconds
 * @throws {Exit} of usage
 */
function seconds (text, option) {
    if (text === undefined)
        return undefined
    if (!/^(?:\d+\.?\d*|\.\d+)$/.test(text))
        throw usage(`${option} takes a number of seconds such as 5 or 0.5`)
    return Math.min(Number(text) * 1000, Number.MAX_SAFE_INTEGER)
}

/**
 * An exit code.
 * @param {string | undefined} text
 * @param {string} option
 * @returns {number | undefined}
 * @throws {Exit} of usage
 */
function exitCode (text, option) {
    if (text === undefined)
        return undefined
    if (!/^\d{1,3}$/.test(text) || Number(text) > 255)
        throw usage(`${option} takes an exit code from 0 to 255`)
    return Number(text)
}

module.exports = { parse, atDashes, atCommand, seconds, exitCode }
