package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
)

const createTransferMethod = "/ledgermesh.ledger.v1.LedgerService/CreateTransfer"
const callTimeout = 10 * time.Second

// Field numbers of proto/ledgermesh/ledger/v1/ledger.proto.
const (
	requestPostings       protowire.Number = 1
	requestIdempotencyKey protowire.Number = 6
	postingDebit          protowire.Number = 1
	postingCredit         protowire.Number = 2
	postingAmount         protowire.Number = 3
	postingCurrency       protowire.Number = 4
	transferState         protowire.Number = 2
	statePosted                            = 1
)

const amountMinorUnits = 1

// All callers share one connection, as in ghz by default.
type grpcCaller struct {
	connection *grpc.ClientConn
	currency   string
}

func openGrpcCallers(address, currency string, count int) ([]caller, func(), error) {
	connection, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(bytesCodec{})))
	if err != nil {
		return nil, nil, err
	}
	callers := make([]caller, count)
	for index := range callers {
		callers[index] = &grpcCaller{connection, currency}
	}
	return callers, func() { _ = connection.Close() }, nil
}

func (c *grpcCaller) transfer(debit, credit, idempotencyKey string) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	var answer []byte
	if err := c.connection.Invoke(ctx, createTransferMethod, c.encode(debit, credit, idempotencyKey), &answer); err != nil {
		return err
	}
	if state := stateOf(answer); state != statePosted {
		return fmt.Errorf("the transfer has state %d", state)
	}
	return nil
}

func (c *grpcCaller) encode(debit, credit, idempotencyKey string) []byte {
	posting := make([]byte, 0, 96)
	posting = appendText(posting, postingDebit, debit)
	posting = appendText(posting, postingCredit, credit)
	posting = protowire.AppendTag(posting, postingAmount, protowire.VarintType)
	posting = protowire.AppendVarint(posting, amountMinorUnits)
	posting = appendText(posting, postingCurrency, c.currency)
	request := make([]byte, 0, 160)
	request = protowire.AppendTag(request, requestPostings, protowire.BytesType)
	request = protowire.AppendBytes(request, posting)
	return appendText(request, requestIdempotencyKey, idempotencyKey)
}

func appendText(message []byte, field protowire.Number, text string) []byte {
	return protowire.AppendString(protowire.AppendTag(message, field, protowire.BytesType), text)
}

// The state in an encoded Transfer; 0 when there is none.
func stateOf(message []byte) uint64 {
	for len(message) > 0 {
		field, kind, tagLength := protowire.ConsumeTag(message)
		if tagLength < 0 {
			return 0
		}
		message = message[tagLength:]
		if field == transferState && kind == protowire.VarintType {
			state, _ := protowire.ConsumeVarint(message)
			return state
		}
		valueLength := protowire.ConsumeFieldValue(field, kind, message)
		if valueLength < 0 {
			return 0
		}
		message = message[valueLength:]
	}
	return 0
}

// Messages are bytes already.
type bytesCodec struct{}

func (bytesCodec) Name() string                        { return "proto" }
func (bytesCodec) Marshal(message any) ([]byte, error) { return message.([]byte), nil }
func (bytesCodec) Unmarshal(data []byte, message any) error {
	*message.(*[]byte) = append([]byte(nil), data...)
	return nil
}
