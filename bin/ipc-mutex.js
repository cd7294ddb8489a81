#!/usr/bin/env node
"use strict"

require("../lib/cli/ipc-mutex.js").ipcMutex(process.argv.slice(2))
