module ledgermesh/bench/load

go 1.24.0
