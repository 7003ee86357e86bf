package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

const callTimeout = 10 * time.Second
const amountMinorUnits = 1

// Each caller has a connection of its own and keeps it (HTTP/1.1 keep-alive).
type caller struct {
	address    string
	token      string
	currency   string
	connection net.Conn
	reader     *bufio.Reader
	body       bytes.Buffer
	request    bytes.Buffer
}

func openCallers(address, token, currency string, count int) ([]*caller, func(), error) {
	callers := make([]*caller, count)
	connections := make([]net.Conn, 0, count)
	for index := range callers {
		connection, err := net.Dial("tcp", address)
		if err != nil {
			return nil, nil, err
		}
		connections = append(connections, connection)
		callers[index] = &caller{
			address: address, token: token, currency: currency, connection: connection, reader: bufio.NewReader(connection),
		}
	}
	return callers, func() {
		for _, connection := range connections {
			_ = connection.Close()
		}
	}, nil
}

// The error says why the transfer was not posted.
func (c *caller) transfer(accounts pair, idempotencyKey string) error {
	c.body.Reset()
	fmt.Fprintf(&c.body,
		`{"postings":[{"debit_account_id":"%s","credit_account_id":"%s","amount_minor_units":"%d","currency":"%s"}]}`,
		accounts.debit, accounts.credit, amountMinorUnits, c.currency)
	c.request.Reset()
	fmt.Fprintf(&c.request,
		"POST /v1/ledger/transfers HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nIdempotency-Key: %s\r\nContent-Length: %d\r\n\r\n",
		c.address, c.token, idempotencyKey, c.body.Len())
	c.request.Write(c.body.Bytes())

	if err := c.connection.SetDeadline(time.Now().Add(callTimeout)); err != nil {
		return err
	}
	if _, err := c.connection.Write(c.request.Bytes()); err != nil {
		return err
	}
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK || !bytes.Contains(answer, []byte(`"state":"POSTED"`)) {
		return fmt.Errorf("HTTP %d: %.300s", response.StatusCode, answer)
	}
	return nil
}
