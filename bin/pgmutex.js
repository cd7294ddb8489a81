#!/usr/bin/env node
"use strict"

require("../lib/cli/advisory.js").pgmutex(process.argv.slice(2))
