-- What became of something for one person. ARGV: the server that asked, the ask's number, '1' if it was handed over.
push('inbox:' .. ARGV[3], 'k', 'ack', 'a', ARGV[4], 'd', ARGV[5])
return { 'ok' }
