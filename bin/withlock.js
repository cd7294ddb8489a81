#!/usr/bin/env node
"use strict"

require("../lib/cli/advisory.js").withlock(process.argv.slice(2))
