#include "checkpoint/torch_file.h"

#include <gtest/gtest.h>

#include "checkpoint/pickle.h"
#include "checkpoint/test_support.h"
#include "checkpoint/zip.h"

namespace ocior::checkpoint {
namespace {

using testing::bytes_of;
using testing::le;
using testing::make_zip;
using testing::raw;

// ---- pickles by hand (opcodes: Lib/pickletools.py)

std::string text(const std::string& s) { return "X" + le(static_cast<uint32_t>(s.size())) + s; }
std::string number(int32_t n) { return "J" + le(n); }
std::string tuple(const std::string& items) { return "(" + items + "t"; }
std::string global(const std::string& module, const std::string& name) { return "c" + module + "\n" + name + "\n"; }
std::string call(const std::string& function, const std::string& arguments) { return function + tuple(arguments) + "R"; }
std::string in_pickle(const std::string& body) { return raw("\x80\x02") + body + "."; }

std::string storage(const std::string& type, const std::string& key, int32_t count) {
  return tuple(text("storage") + global("torch", type) + text(key) + text("cpu") + number(count)) + "Q";
}
std::string tensor(const std::string& store, int32_t offset, const std::string& shape, const std::string& strides) {
  return call(global("torch._utils", "_rebuild_tensor_v2"),
              store + number(offset) + tuple(shape) + tuple(strides) + "\x89" + global("collections", "OrderedDict") + ")R");
}
std::string dict(const std::string& items) { return "}(" + items + "u"; }

// A zip with one storage of six floats, 0 to 5.
std::string archive(const std::string& pickle) {
  std::string data;
  for (int i = 0; i < 6; ++i) data += le(static_cast<float>(i));
  return make_zip({{"m/data.pkl", pickle}, {"m/byteorder", "little"}, {"m/data/0", data}});
}

Result<StateDict> read(const std::string& file) { return read_torch_file(bytes_of(file), "pytorch_model.bin"); }

std::string fault_of(const std::string& file) {
  const auto got = read(file);
  return got.ok() ? "" : got.status().message();
}
std::string pickle_fault(const std::string& body) { return fault_of(archive(in_pickle(body))); }

std::vector<float> values(const TensorEntry& entry, bool transposed) {
  const auto made = to_initializer(entry, "x", DType::kFloat, transposed);
  if (!made.ok()) return {};
  std::vector<float> out(made->raw.size() / 4);
  std::memcpy(out.data(), made->raw.data(), made->raw.size());
  return out;
}

TEST(TorchFile, ReadsViewsOfOneStorage) {
  const std::string store = storage("FloatStorage", "0", 6);
  const std::string file =
      archive(in_pickle(dict(text("all") + tensor(store, 0, number(2) + number(3), number(3) + number(1)) + text("turned") +
                             tensor(store, 0, number(3) + number(2), number(1) + number(3)) + text("tail") +
                             tensor(store, 4, number(2), number(1)) + text("epoch") + number(3))));
  const auto got = read(file);
  ASSERT_TRUE(got.ok()) << got.status().message();
  ASSERT_EQ(got->entries().size(), 3u);
  EXPECT_EQ(values(*got->find("all"), false), (std::vector<float>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(values(*got->find("all"), true), (std::vector<float>{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(values(*got->find("turned"), false), (std::vector<float>{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(values(*got->find("turned"), true), (std::vector<float>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(values(*got->find("tail"), false), (std::vector<float>{4, 5}));
}

TEST(TorchFile, NamesWhatAPickleWantsToCall) {
  EXPECT_EQ(pickle_fault(call(global("os", "system"), text("id"))),
            "pytorch_model.bin: the pickle wants to call `os.system`; only tensors are read from checkpoints. Save it again as "
            "safetensors.");
  EXPECT_NE(pickle_fault(text("posix") + text("system") + "\x93").find("`posix.system`"), std::string::npos);
  for (const char* name : {"eval", "exec", "getattr", "__import__"}) {
    EXPECT_NE(
        pickle_fault(dict(text("w") + call(global("builtins", name), text("1")))).find(std::string("`builtins.") + name + "`"),
        std::string::npos);
  }
  EXPECT_NE(pickle_fault(global("torch.storage", "_load_from_bytes")).find("`torch.storage._load_from_bytes`"),
            std::string::npos);
  EXPECT_NE(pickle_fault(global("torch", "load")).find("`torch.load`"), std::string::npos);
  EXPECT_NE(pickle_fault(global("torch._utils", "_rebuild_qtensor")).find("_rebuild_qtensor"), std::string::npos);
  // What is not called by name is refused as an opcode: INST, OBJ, NEWOBJ, EXT1, the persistent id as text.
  for (const char op : {'i', 'o', '\x81', '\x82', 'P'})
    EXPECT_NE(pickle_fault(")" + std::string(1, op)).find("opcode"), std::string::npos);
}

TEST(TorchFile, RefusesViewsThatLeaveTheirStorage) {
  const auto one = [](const std::string& store, int32_t offset, const std::string& shape, const std::string& strides) {
    return pickle_fault(dict(text("w") + tensor(store, offset, shape, strides)));
  };
  const std::string six = storage("FloatStorage", "0", 6);
  EXPECT_EQ(one(six, 0, number(6), number(1)), "");
  EXPECT_NE(one(six, 1, number(6), number(1)).find("tensor `w`"), std::string::npos);
  EXPECT_NE(one(six, 1, number(6), number(1)).find("needs 24 bytes, but its storage has 20"), std::string::npos);
  EXPECT_NE(one(six, 0, number(3), number(3)).find("needs 28 bytes"), std::string::npos);
  EXPECT_NE(one(six, -1, number(1), number(1)).find("begins at element -1"), std::string::npos);
  EXPECT_NE(one(six, 7, number(0), number(1)).find("begins at element 7"), std::string::npos);
  EXPECT_NE(one(six, 0, number(2), number(-1)).find("negative stride"), std::string::npos);
  EXPECT_NE(one(six, 0, number(-2), number(1)).find("negative dimension"), std::string::npos);
  EXPECT_NE(one(six, 0, number(7), number(0)).find("7 elements in a storage of 6"), std::string::npos);
  EXPECT_NE(one(six, 0, number(1) + number(2), number(1)).find("2 dimensions but 1 strides"), std::string::npos);
  EXPECT_NE(one(six, 0, number(2147483647) + number(2147483647) + number(2147483647), number(0) + number(0) + number(0))
                .find("64 bits"),
            std::string::npos);
  EXPECT_NE(one(storage("FloatStorage", "0", 7), 0, number(1), number(1)).find("needs 28 bytes of storage `0`, which has 24"),
            std::string::npos);
  EXPECT_NE(one(storage("FloatStorage", "9", 1), 0, number(1), number(1)).find("storage `9`, which the file lacks"),
            std::string::npos);
  EXPECT_NE(one(storage("FloatStorage", "0", -1), 0, number(1), number(1)).find("impossible size"), std::string::npos);
  EXPECT_NE(one(tuple(text("module") + "NNNN") + "Q", 0, number(1), number(1)).find("no tensor"), std::string::npos);
}

// A small file may not turn into tensors without end.
TEST(TorchFile, RefusesSharingWithoutMeasure) {
  std::string items;
  for (int i = 0; i < 100; ++i)
    items += text("w" + std::to_string(i)) + tensor(storage("FloatStorage", "0", 6), 0, number(6), number(1));
  EXPECT_NE(pickle_fault(dict(items)).find("share their storages"), std::string::npos);
}

TEST(TorchFile, RefusesWhatIsNoStateDict) {
  EXPECT_NE(pickle_fault("]").find("dictionary of tensors"), std::string::npos);
  EXPECT_NE(pickle_fault("}").find("no tensors"), std::string::npos);
  EXPECT_NE(pickle_fault(dict(text("w") + number(1))).find("no tensors"), std::string::npos);
  EXPECT_NE(fault_of("").find("neither zip nor pickle"), std::string::npos);
  EXPECT_NE(fault_of("\x80").find("cut off"), std::string::npos);
  EXPECT_NE(fault_of(in_pickle("}")).find("not one of torch.save"), std::string::npos);
  EXPECT_NE(fault_of("version https://git-lfs.github.com/spec/v1\n").find("git lfs pull"), std::string::npos);
  EXPECT_NE(fault_of(make_zip({{"m/other", ""}})).find("without data.pkl"), std::string::npos);
  EXPECT_NE(fault_of(make_zip({{"m/constants.pkl", ""}, {"m/data.pkl", ""}})).find("TorchScript"), std::string::npos);
  EXPECT_NE(fault_of(make_zip({{"m/data.pkl", in_pickle("}")}, {"m/byteorder", "middle"}})).find("byte order \"middle\""),
            std::string::npos);
}

TEST(Pickle, RefusesDamage) {
  const auto fault = [](const std::string& body) { return pickle_fault(body); };
  EXPECT_NE(fault("a").find("empty stack"), std::string::npos);
  EXPECT_NE(fault("t").find("mark that was never set"), std::string::npos);
  EXPECT_NE(fault(raw("h\x05")).find("recalls value 5"), std::string::npos);
  EXPECT_NE(fault("}(" + text("k") + "u").find("key without a value"), std::string::npos);
  EXPECT_NE(fault(number(1) + number(2)).find("more or less than one value"), std::string::npos);
  EXPECT_NE(fault(number(1) + ")R").find("calls something that is no global"), std::string::npos);
  EXPECT_NE(fault("X" + le<uint32_t>(0xffffffff) + "abc").find("cut off"), std::string::npos);
  EXPECT_NE(fault(raw("\x8d\xff\xff\xff\xff\xff\xff\xff\xff")).find("cut off"), std::string::npos);
  EXPECT_NE(fault(raw("\x80\x01")).find("protocol 1"), std::string::npos);
  EXPECT_NE(fault("(" + number(1) + "0" + "0").find("empty stack"), std::string::npos) << "POP must not reach below a mark";
}

bool anything(std::string_view) { return true; }

TEST(Pickle, BoundsMemory) {
  const auto fault = [](const std::string& pickle) {
    const auto got = pickle::read(bytes_of(pickle), anything);
    return got.ok() ? "" : got.status().message();
  };
  const std::string many(pickle::kMaxObjects + 2, ')');
  EXPECT_NE(fault(many).find("more than"), std::string::npos);
  EXPECT_NE(fault(std::string(pickle::kMaxObjects + 2, 'N')).find("more than"), std::string::npos);
  EXPECT_NE(fault(std::string(pickle::kMaxObjects + 2, '(')).find("more than"), std::string::npos);
  EXPECT_NE(fault("N" + std::string(pickle::kMaxObjects + 2, '\x94')).find("more than"), std::string::npos);
  // One long list, copied by each of many calls.
  std::string pairs = "](";
  for (int i = 0; i < 1000; ++i) pairs += "NN\x86";
  std::string copies = global("collections", "OrderedDict") + pairs + "e\x85" + raw("R0");
  EXPECT_EQ(fault(copies + "N."), "") << "once is fine";
  copies = global("collections", "OrderedDict") + raw("q\x01") + "0" + pairs + "e\x85" + raw("q\x02") + "0";
  for (int i = 0; i < 1000; ++i) copies += raw("h\x01h\x02R0");
  EXPECT_NE(fault(copies + "N.").find("copies one list too often"), std::string::npos);
}

TEST(Pickle, ReadsNumbersAndText) {
  const std::string pickle = in_pickle("(" + raw("\x8a\x01\xff") + raw("\x8a\x00") + raw("\x8a\x02\x00\x80") + number(-7) + "G" +
                                       raw("\x3f\xf8\0\0\0\0\0\0") + raw("\x8c\x02hi") + raw("U\x03old") + "t");
  const auto got = pickle::read(bytes_of(pickle), anything);
  ASSERT_TRUE(got.ok()) << got.status().message();
  const auto& items = got->at(got->root).items;
  ASSERT_EQ(items.size(), 7u);
  EXPECT_EQ(got->at(items[0]).integer, -1);
  EXPECT_EQ(got->at(items[1]).integer, 0);
  EXPECT_EQ(got->at(items[2]).integer, -32768);
  EXPECT_EQ(got->at(items[3]).integer, -7);
  EXPECT_EQ(got->at(items[4]).real, 1.5);
  EXPECT_EQ(got->at(items[5]).text, "hi");
  EXPECT_EQ(got->at(items[6]).text, "old");
  EXPECT_EQ(got->bytes, pickle.size());
}

TEST(Pickle, ReadsOrderedDictsOfPython2) {
  const std::string pickle =
      in_pickle(global("collections", "OrderedDict") + "]" + "](" + text("k") + number(1) + "ea" + "\x85R");
  const auto got = pickle::read(bytes_of(pickle), anything);
  ASSERT_TRUE(got.ok()) << got.status().message();
  EXPECT_EQ(got->at(got->root).kind, pickle::Kind::kDict);
  EXPECT_EQ(got->at(got->root).items.size(), 2u);
}

TEST(Zip, RefusesDamage) {
  const auto fault = [](const std::string& file) {
    const auto got = read_zip(bytes_of(file), "x.bin");
    return got.ok() ? "" : got.status().message();
  };
  const std::vector<std::pair<std::string, std::string>> two = {{"a", "12"}, {"b", "345"}};
  EXPECT_EQ(fault(make_zip(two)), "");
  EXPECT_NE(fault(make_zip(two, {.method = 8})).find("`a` is compressed"), std::string::npos);
  EXPECT_NE(fault(make_zip(two, {.flags = 1})).find("encrypted"), std::string::npos);
  EXPECT_NE(fault(make_zip(two, {.header_shift = 1})).find("not where the directory says"), std::string::npos);
  EXPECT_NE(fault(make_zip({{"a", "1"}, {"a", "2"}})).find("holds `a` twice"), std::string::npos);
  const std::string whole = make_zip(two);
  for (size_t length = 0; length < whole.size(); ++length) EXPECT_NE(fault(whole.substr(0, length)), "") << length;
  // An entry that holds another: the directory's second record points at the first one's header.
  std::string overlapping = make_zip({{"a", "12"}, {"a", "12"}});
  const size_t second = overlapping.rfind("PK\1\2");
  overlapping.replace(second + 42, 4, le<uint32_t>(0));
  EXPECT_NE(fault(overlapping).find("overlap"), std::string::npos);
}

// One entry whose sizes and place are in a zip64 field, behind a zip64 directory end.
std::string make_zip64(const std::string& name, const std::string& data, uint64_t size, uint64_t header, uint64_t entries) {
  const uint32_t see = 0xffffffff;
  const std::string local = "PK\3\4" + le<uint16_t>(45) + le<uint16_t>(0) + le<uint16_t>(0) + le<uint32_t>(0) + le<uint32_t>(0) +
                            le(see) + le(see) + le(static_cast<uint16_t>(name.size())) + le<uint16_t>(0) + name + data;
  const std::string other = le<uint16_t>(0x4650) + le<uint16_t>(3) + "pad";
  const std::string extra = other + le<uint16_t>(1) + le<uint16_t>(24) + le(size) + le(size) + le(header);
  const std::string central = "PK\1\2" + le<uint16_t>(45) + le<uint16_t>(45) + le<uint16_t>(0) + le<uint16_t>(0) +
                              le<uint32_t>(0) + le<uint32_t>(0) + le(see) + le(see) + le(static_cast<uint16_t>(name.size())) +
                              le(static_cast<uint16_t>(extra.size())) + le<uint16_t>(0) + le<uint16_t>(0) + le<uint16_t>(0) +
                              le<uint32_t>(0) + le(see) + name + extra;
  const std::string end64 = "PK\6\6" + le<uint64_t>(44) + le<uint16_t>(45) + le<uint16_t>(45) + le<uint32_t>(0) +
                            le<uint32_t>(0) + le(entries) + le(entries) + le<uint64_t>(central.size()) +
                            le<uint64_t>(local.size());
  const std::string locator = "PK\6\7" + le<uint32_t>(0) + le<uint64_t>(local.size() + central.size()) + le<uint32_t>(1);
  return local + central + end64 + locator + "PK\5\6" + le<uint32_t>(0) + le<uint16_t>(0xffff) + le<uint16_t>(0xffff) + le(see) +
         le(see) + le<uint16_t>(0);
}

TEST(Zip, ReadsZip64) {
  const std::string file = make_zip64("a", "12345", 5, 0, 1);
  const auto ok = read_zip(bytes_of(file), "x.bin");
  ASSERT_TRUE(ok.ok()) << ok.status().message();
  const auto data = ok->at("a");
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(data.data()), data.size()), "12345");
  for (const uint64_t bad : {uint64_t{1} << 40, UINT64_MAX, UINT64_MAX - 30}) {
    EXPECT_FALSE(read_zip(bytes_of(make_zip64("a", "12345", bad, 0, 1)), "x.bin").ok());
    EXPECT_FALSE(read_zip(bytes_of(make_zip64("a", "12345", 5, bad, 1)), "x.bin").ok());
    EXPECT_FALSE(read_zip(bytes_of(make_zip64("a", "12345", 5, 0, bad)), "x.bin").ok());
  }
}

TEST(TorchFile, SurvivesMutants) {
  const std::string folder = OCIOR_SOURCE_DIR "/tests/data/checkpoints/";
  const int count = testing::mutant_count(2000);
  for (const char* name : {"tiny-bert-mlm-zip", "tiny-electra-token-legacy"}) {
    const std::string seed = testing::read_text(folder + name + "/pytorch_model.bin");
    ASSERT_TRUE(read(seed).ok()) << name;
    int refused = 0;
    for (int i = 0; i < count; ++i) {
      const std::vector<std::byte> file = testing::exact_copy(testing::mutant(seed, static_cast<uint32_t>(i)));
      const auto got = read_torch_file(file, "pytorch_model.bin");
      if (got.ok()) {
        testing::touch_all(*got);
      } else {
        ++refused;
        EXPECT_TRUE(got.status().message().starts_with("pytorch_model.bin: ")) << got.status().message();
      }
    }
    EXPECT_GT(refused, count / 2) << name;
  }
}

// Damage to the pickle alone, where most of the reader's decisions are.
TEST(TorchFile, SurvivesMutatedPickles) {
  const std::string folder = OCIOR_SOURCE_DIR "/tests/data/checkpoints/tiny-bert-mlm-zip/pytorch_model.bin";
  const std::string file = testing::read_text(folder);
  const auto entries = read_zip(bytes_of(file), "seed");
  ASSERT_TRUE(entries.ok());
  std::vector<std::pair<std::string, std::string>> parts;
  std::string pickle;
  for (const auto& [name, data] : *entries) {
    const std::string contents(reinterpret_cast<const char*>(data.data()), data.size());
    if (name.ends_with("data.pkl")) pickle = contents;
    else parts.emplace_back(name, contents);
  }
  for (int i = 0; i < testing::mutant_count(2000); ++i) {
    auto damaged = parts;
    damaged.emplace_back("archive/data.pkl", testing::mutant(pickle, static_cast<uint32_t>(i)));
    const std::vector<std::byte> bytes = testing::exact_copy(make_zip(damaged));
    if (const auto got = read_torch_file(bytes, "pytorch_model.bin"); got.ok()) testing::touch_all(*got);
  }
}

}  // namespace
}  // namespace ocior::checkpoint
