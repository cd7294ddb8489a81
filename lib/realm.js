"use strict"

const { runInThisContext } = require("node:vm")

/*
 * What there is once in the process, whatever realm this code runs in. A test runner gives each file of tests a realm of its own, where the global
 * `process` is a copy: its list of modules is old, and its events never come.
 */

module.exports = { process: runInThisContext("globalThis.process") ?? process }
