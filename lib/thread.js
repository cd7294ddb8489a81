"use strict"

const native = require("./native.js")

/*
 * Which JavaScript thread this is. node:worker_threads knows, but to load it costs a third of what loading this package does, and on
 * the thread that the system started the process with the answer is clear: Node.js runs workers on threads of their own.
 */
const { isMainThread, threadId } = native.isFirstThread() ? { isMainThread: true, threadId: 0 } : require("node:worker_threads")

module.exports = { isMainThread, threadId: isMainThread ? 0 : threadId }
