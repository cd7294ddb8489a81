-- Ends a hold and hands the lock on, or withdraws a waiter from the queue.
--
-- KEYS     as in words.lua
-- ARGV[1]  owner
-- returns  1 if the owner held the lock until now, 0 if it did not (any more). Doing it twice does no harm.

local owner = ARGV[1]

if state == 'exclusive' and holder == owner then
    state = 'free'
    call('DEL', MAIN)
    make_room()
    settle()
    tell_first({})
    return 1
end

first_changed = is_first(owner)
local left = forget_waiter(owner)
local freed = 0
if state == 'shared' then
    local deadline = call('ZSCORE', READERS, owner)
    if deadline then
        forget_readers({ owner })
        left = true
        freed = tonumber(deadline) > now and 1 or 0
    end
end
if left then
    if state == 'shared' and call('EXISTS', READERS) == 0 then
        call('DEL', MAIN)
        state = 'free'
        make_room()
    end
    settle()
    if state == 'shared' then
        stretch()
    elseif call('EXISTS', QUEUE) == 0 then
        call('DEL', TURNS)
    end
    tell_first({})
end
return freed
