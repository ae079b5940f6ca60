// A tour of keelplane from Go: memory, events, cache and a job over one local channel.
//
// Usage: go run . [ADDRESS]      default 127.0.0.1:50051
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	keelplane "keelplane.dev/example/gen/keelplane/v1"
)

// reason is the machine-readable cause of a failed call.
func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// remember stores two texts and asks a question. The built-in embedder compares spelling, not meaning.
func remember(ctx context.Context, conn *grpc.ClientConn, collection string) error {
	client := keelplane.NewMemoryServiceClient(conn)
	_, err := client.CreateCollection(ctx, &keelplane.CreateCollectionRequest{
		Collection: &keelplane.Collection{Id: collection, Embedder: "builtin-lexical-384"},
	})
	if err != nil {
		return err
	}
	_, err = client.UpsertRecords(ctx, &keelplane.UpsertRecordsRequest{
		CollectionId: collection,
		Records: []*keelplane.RecordInput{
			{Id: "drain", Text: "SIGTERM drains the daemon: calls in flight finish, streams are told where to resume."},
			{Id: "budget", Text: "A reservation never takes more than the budget has left."},
		},
	})
	if err != nil {
		return err
	}
	answer, err := client.Search(ctx, &keelplane.SearchRequest{
		CollectionId: collection,
		Query: &keelplane.SearchQuery{
			Target: &keelplane.SearchQuery_Text{Text: "how are streams told to resume"},
			K:      1,
			Mode:   keelplane.SearchMode_SEARCH_MODE_HYBRID,
		},
	})
	if err != nil {
		return err
	}
	hits := answer.GetResult().GetHits()
	if len(hits) != 1 || hits[0].GetRecord().GetId() != "drain" {
		return fmt.Errorf("search answered %v", hits)
	}
	fmt.Printf("memory: %s (%.4f)\n", hits[0].GetRecord().GetId(), hits[0].GetScore())
	return nil
}

// tell appends an event twice with the same expectation; the second append loses.
func tell(ctx context.Context, conn *grpc.ClientConn, stream string) error {
	client := keelplane.NewEventServiceClient(conn)
	patch, err := structpb.NewStruct(map[string]any{"status": "open"})
	if err != nil {
		return err
	}
	request := func() *keelplane.AppendEventsRequest {
		return &keelplane.AppendEventsRequest{
			Stream:   stream,
			Expected: &keelplane.AppendEventsRequest_NoStream{NoStream: true},
			Events:   []*keelplane.NewEvent{{Type: "task.opened", StatePatch: patch}},
		}
	}
	if _, err := client.AppendEvents(ctx, request()); err != nil {
		return err
	}
	_, err = client.AppendEvents(ctx, request())
	if status.Code(err) != codes.Aborted {
		return fmt.Errorf("the second first append answered %v", err)
	}
	fmt.Printf("events: a lost race is %s, %s\n", status.Code(err), reason(err))
	return nil
}

// remind sets a value with a time to live and reads it back.
func remind(ctx context.Context, conn *grpc.ClientConn, key string) error {
	client := keelplane.NewCacheServiceClient(conn)
	_, err := client.Set(ctx, &keelplane.CacheServiceSetRequest{
		Namespace:  "tool-results",
		Key:        key,
		Value:      &keelplane.CacheServiceSetRequest_Text{Text: "42"},
		Expiration: &keelplane.CacheServiceSetRequest_Ttl{Ttl: durationpb.New(time.Minute)},
	})
	if err != nil {
		return err
	}
	got, err := client.Get(ctx, &keelplane.CacheServiceGetRequest{Namespace: "tool-results", Key: key})
	if err != nil {
		return err
	}
	if got.GetEntry().GetText() != "42" {
		return fmt.Errorf("cache answered %v", got)
	}
	fmt.Printf("cache: %s = %s\n", key, got.GetEntry().GetText())
	return nil
}

// work enqueues a job, claims it and completes it.
func work(ctx context.Context, conn *grpc.ClientConn, queue string) error {
	client := keelplane.NewJobServiceClient(conn)
	if _, err := client.EnqueueJob(ctx, &keelplane.EnqueueJobRequest{Job: &keelplane.NewJob{Queue: queue}}); err != nil {
		return err
	}
	claimed, err := client.ClaimJobs(ctx, &keelplane.ClaimJobsRequest{
		Queues: []string{queue}, WorkerId: "tour", Wait: durationpb.New(5 * time.Second),
	})
	if err != nil {
		return err
	}
	if len(claimed.GetJobs()) != 1 {
		return errors.New("the job was not claimed")
	}
	one := claimed.GetJobs()[0]
	done, err := client.CompleteJob(ctx, &keelplane.CompleteJobRequest{
		JobId: one.GetJob().GetJobId(), LeaseToken: one.GetLeaseToken(),
	})
	if err != nil {
		return err
	}
	fmt.Printf("jobs: %s\n", done.GetJob().GetStatus())
	return nil
}

func run(address string) error {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	name := fmt.Sprintf("tour-%x", time.Now().UnixNano())
	for _, step := range []func(context.Context, *grpc.ClientConn, string) error{remember, tell, remind, work} {
		if err := step(ctx, conn, name); err != nil {
			return err
		}
	}
	fmt.Println("ok")
	return nil
}

func main() {
	address := "127.0.0.1:50051"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	if err := run(address); err != nil {
		log.Fatal(err)
	}
}
