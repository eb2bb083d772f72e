#include "check.hpp"
#include "codelength.hpp"

namespace emulation_check {

namespace {

struct Result {
  std::vector<std::int64_t> channel, token, site, block;
  bool operator==(const Result&) const = default;
};

Result plain_sums(const Case& made, const std::vector<std::int32_t>& cost, const std::vector<std::int32_t>& tables,
                  const cuda::Plan& plan, cuda::Blocks blocks) {
  const cuda::Site& total = plan.sites.back();
  Result sums{std::vector<std::int64_t>(std::size_t(total.channel)), std::vector<std::int64_t>(std::size_t(total.token)),
              std::vector<std::int64_t>(plan.sites.size() - 1), std::vector<std::int64_t>(std::size_t(total.block))};
  std::size_t i = 0;
  const std::size_t count = cost.size() / std::size_t(made.alphabet);
  for (std::size_t s = 0; s + 1 < plan.sites.size(); ++s) {
    const cuda::Site& site = plan.sites[s];
    const std::int64_t across = cuda::blocks_along(site.channels, blocks.channels);
    for (std::int64_t t = 0; t < site.tokens; ++t) {
      for (std::int64_t c = 0; c < site.channels; ++c, ++i) {
        const auto channel = std::size_t(site.channel + c);
        const auto table = std::size_t(tables.empty() ? std::int32_t(channel) : tables[channel]);
        const std::int64_t bits = cost[made.symbols[i] * count + table];
        sums.channel[channel] += bits;
        sums.token[std::size_t(site.token + t)] += bits;
        sums.site[s] += bits;
        sums.block[std::size_t(site.block + t / blocks.tokens * across + c / blocks.channels)] += bits;
      }
    }
  }
  return sums;
}

void check(Case made, unsigned seed, cuda::Blocks blocks) {
  std::mt19937 random(seed);
  const bool shared_tables = seed % 2 == 1;
  std::vector<std::int32_t> tables;
  if (shared_tables) {
    for (std::size_t c = 0; c < made.low.size(); ++c) tables.push_back(static_cast<std::int32_t>(random() % 3));
  }
  const std::size_t count = shared_tables ? 3 : made.low.size();
  std::vector<std::int32_t> cost(count * std::size_t(made.alphabet));
  const std::int64_t largest = seed % 3 == 0 ? 0x7FFFFFFF : seed % 3 == 1 ? 100000000 : 1000000;
  for (auto& entry : cost) entry = static_cast<std::int32_t>(std::int64_t(random()) % (2 * largest + 1) - largest);
  const cuda::Plan plan = made.plan(cuda::tile_channels(made.alphabet), blocks);
  const Result wanted = plain_sums(made, cost, tables, plan, blocks);
  Result sums{std::vector<std::int64_t>(wanted.channel.size()), std::vector<std::int64_t>(wanted.token.size()),
              std::vector<std::int64_t>(wanted.site.size()), std::vector<std::int64_t>(wanted.block.size())};
  const cuda::Costs costs{cost.data(), std::int64_t(count), shared_tables ? tables.data() : nullptr, largest};
  cuda::codelength(made.input(), device_plan(plan), costs,
                   {sums.channel.data(), sums.token.data(), sums.site.data(), sums.block.data(), blocks}, nullptr);
  expect(sums == wanted, "codelength, all sums in one pass");
  std::vector<std::int64_t> alone(wanted.channel.size());
  cuda::codelength(made.input(), device_plan(plan), costs, {alone.data(), nullptr, nullptr, nullptr, {}}, nullptr);
  expect(alone == wanted.channel, "codelength per channel alone");
}

}  // namespace

void check_codelength() {
  constexpr cuda::Blocks kBlocks[] = {{64, 64}, {1, 1}, {7, 300}, {1000, 5}, {16, 33}};
  constexpr int kLevels[] = {15, 63, 64};
  unsigned seed = 1000;
  for (const Shapes& shapes : kShapes) {
    for (const auto scale : {cuda::Scale::symbols, cuda::Scale::uniform, cuda::Scale::log, cuda::Scale::sign,
                             cuda::Scale::exponent}) {
      ++seed;
      check(make_case(scale, shapes, kLevels[seed % std::size(kLevels)], seed), seed, kBlocks[seed % std::size(kBlocks)]);
    }
    ++seed;
    check(make_case(cuda::Scale::log, shapes, kLevels[seed % std::size(kLevels)], seed), seed, kBlocks[seed / 2 % std::size(kBlocks)]);
  }
}

}  // namespace emulation_check
