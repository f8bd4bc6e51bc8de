/* loader DIRECTORY IN OUT INPUT... -- OUTPUT...

   Runs a SavedModel through TensorFlow's C library, with the loader that TensorFlow
   Serving uses. INPUT and OUTPUT are names of tensors, `operation:index`, as the
   signature gives them. IN holds the inputs of any number of calls, one after the
   other; OUT gets the outputs in the same form. A tensor is

     int32 dtype, int32 rank, int64 sizes[rank], int64 bytes, the values

   in the byte order of the machine. It ends when its standard input does, which is
   when the process that started it does; with 74 where it cannot write. */

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tensorflow/c/c_api.h>
#include <unistd.h>

static void fail(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

static void cannot_write(const char *file) {
  fprintf(stderr, "%s: cannot be written: %s\n", file, strerror(errno));
  exit(74);
}

static void *end_with_input(void *unused) {
  char byte;
  while (read(0, &byte, 1) > 0) continue;
  _exit(1);
  return unused;
}

static void check(const char *what, TF_Status *status) {
  if (TF_GetCode(status) != TF_OK) fail(what, TF_Message(status));
}

static TF_Output find(TF_Graph *graph, const char *tensor) {
  char name[4096];
  const char *colon = strrchr(tensor, ':');
  size_t length = colon ? (size_t)(colon - tensor) : strlen(tensor);
  if (length >= sizeof name) fail(tensor, "the name is too long");
  memcpy(name, tensor, length);
  name[length] = 0;
  TF_Output found = {TF_GraphOperationByName(graph, name),
                     colon ? atoi(colon + 1) : 0};
  if (!found.oper) fail(tensor, "the graph has no such operation");
  return found;
}

static void read_exactly(void *values, size_t bytes, FILE *file) {
  if (fread(values, 1, bytes, file) != bytes) fail("IN", "ends within a tensor");
}

/* NULL at the end of the file. */
static TF_Tensor *read_tensor(FILE *file) {
  int32_t dtype, rank;
  int64_t sizes[16], bytes;
  if (fread(&dtype, sizeof dtype, 1, file) != 1) return NULL;
  read_exactly(&rank, sizeof rank, file);
  if (rank < 0 || rank > 16) fail("IN", "has a tensor of more than 16 dimensions");
  read_exactly(sizes, (size_t)rank * sizeof *sizes, file);
  read_exactly(&bytes, sizeof bytes, file);
  TF_Tensor *tensor = TF_AllocateTensor(dtype, sizes, rank, (size_t)bytes);
  if (!tensor) fail("IN", "out of memory");
  read_exactly(TF_TensorData(tensor), (size_t)bytes, file);
  return tensor;
}

static void write_tensor(const TF_Tensor *tensor, FILE *file) {
  int32_t dtype = TF_TensorType(tensor), rank = TF_NumDims(tensor);
  int64_t bytes = (int64_t)TF_TensorByteSize(tensor);
  fwrite(&dtype, sizeof dtype, 1, file);
  fwrite(&rank, sizeof rank, 1, file);
  for (int i = 0; i < rank; i++) {
    int64_t size = TF_Dim(tensor, i);
    fwrite(&size, sizeof size, 1, file);
  }
  fwrite(&bytes, sizeof bytes, 1, file);
  fwrite(TF_TensorData(tensor), 1, (size_t)bytes, file);
}

int main(int count, char **words) {
  int dash = 4;
  while (dash < count && strcmp(words[dash], "--")) dash++;
  int given = dash - 4, wanted = count - dash - 1;
  if (count < 7 || given < 1 || wanted < 1) {
    fail("usage", "loader DIRECTORY IN OUT INPUT... -- OUTPUT...");
  }
  pthread_t watch;
  if (pthread_create(&watch, NULL, end_with_input, NULL)) fail("thread", "none left");
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  const char *tags[] = {"serve"};
  TF_Session *session = TF_LoadSessionFromSavedModel(
      options, NULL, words[1], tags, 1, graph, NULL, status);
  check("TF_LoadSessionFromSavedModel", status);

  TF_Output *inputs = calloc((size_t)given, sizeof *inputs);
  TF_Output *outputs = calloc((size_t)wanted, sizeof *outputs);
  TF_Tensor **fed = calloc((size_t)given, sizeof *fed);
  TF_Tensor **fetched = calloc((size_t)wanted, sizeof *fetched);
  for (int i = 0; i < given; i++) inputs[i] = find(graph, words[4 + i]);
  for (int i = 0; i < wanted; i++) outputs[i] = find(graph, words[dash + 1 + i]);

  FILE *in = fopen(words[2], "rb"), *out = fopen(words[3], "wb");
  if (!in) fail(words[2], "cannot be opened");
  if (!out) cannot_write(words[3]);
  while ((fed[0] = read_tensor(in))) {
    for (int i = 1; i < given; i++) {
      if (!(fed[i] = read_tensor(in))) fail("IN", "ends within a call");
    }
    TF_SessionRun(session, NULL, inputs, fed, given, outputs, fetched, wanted, NULL,
                  0, NULL, status);
    check("TF_SessionRun", status);
    for (int i = 0; i < given; i++) TF_DeleteTensor(fed[i]);
    for (int i = 0; i < wanted; i++) {
      write_tensor(fetched[i], out);
      TF_DeleteTensor(fetched[i]);
    }
  }
  if (ferror(out) | fclose(out)) cannot_write(words[3]);
  fclose(in);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  free(inputs), free(outputs), free(fed), free(fetched);
  return 0;
}
