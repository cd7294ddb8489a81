"use strict"

const { Mutex } = require("./lib/mutex.js")
const { LockManager } = require("./lib/manager.js")
const { MutexError } = require("./lib/errors.js")

module.exports = Mutex
module.exports.Mutex = Mutex
module.exports.LockManager = LockManager
module.exports.MutexError = MutexError
