"use strict"

const args = require("./arguments.js")
const { usage } = require("./exit.js")
const { main } = require("./program.js")
const help = require("./help.js")

/** The commands by name; the code of one is loaded when it is called. */
const COMMANDS = {
    exec: () => require("./exec.js").exec,
    status: () => require("./status.js").status
}

/** Without a command: `--help`, `--version`, or a mistake. */
const plain = {
    name: "ipc-mutex",
    help: help.IPC_MUTEX,
    read (given) {
        const names = Object.keys(COMMANDS).join(" or ")
        const { values, positionals: [ name ] } = args.parse(args.atDashes(given).before, {})
        return {
            values,
            run: async () => {
                throw usage(name === undefined ? `no command: expected ${names} (see --help)` : `unknown command: expected ${names} (see --help)`)
            }
        }
    }
}

/** The program `ipc-mutex`. @param {string[]} given what follows the program's name */
function ipcMutex (given) {
    const [ name, ...rest ] = given[0] === "help" ? [ ...given.slice(1, 2), "--help" ] : given
    return Object.hasOwn(COMMANDS, name ?? "") ? main(COMMANDS[name](), rest) : main(plain, [ ...name === undefined ? [] : [ name ], ...rest ])
}

module.exports = { ipcMutex }
