"use strict"

const { FIRST } = require("./role.js")
const { Peer } = require("./peer.js")

/*
 * What copies of this package in one process are to each other. The others ask the copy that has the lock table, in the same words
 * as workers do.
 */

/** Gives a client of this copy's table what it speaks to. */
function ask (hear) {
    const peer = new Peer(process.pid, (words) => hear(words, 0))
    return (words) => peer.take(words, 0)
}

/** The same for the table of the copy that has it. */
const askFirst = (hear) => process[FIRST](hear)

module.exports = { ask, askFirst }
