"use strict"

const { Mutex } = require("./lib/mutex.js")
const { MutexError } = require("./lib/errors.js")

module.exports = Mutex
module.exports.Mutex = Mutex
module.exports.MutexError = MutexError
