// Compiles HLSL with DXC, without optimizing it: unrolling takes seconds per kernel. Reads lines from stdin,
// `PROFILE FILE`, such as `cs_6_0 /tmp/kernel.hlsl`, and writes a line per file: `FILE: ok`, or `FILE: ` and the first
// error.
#include <dlfcn.h>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <string>
#define __EMULATE_UUID 1
#include "dxcapi.h"

static std::string first_error(const std::string &text) {
  size_t at = text.find("error");
  return at == std::string::npos ? text : text.substr(at, text.find('\n', at) - at);
}

static std::string compile(IDxcCompiler3 *compiler, const std::string &profile, const std::string &path) {
  std::ifstream file(path);
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::wstring wide(profile.begin(), profile.end());
  const wchar_t *arguments[] = { L"-E", L"main", L"-T", wide.c_str(), L"-HV", L"2018", L"-Vd", L"-Od",
                                 L"-enable-16bit-types" };
  // 16-bit types exist since shader model 6.2.
  UINT32 count = profile < "cs_6_2" ? 8 : 9;
  DxcBuffer source = { text.data(), text.size(), DXC_CP_UTF8 };
  IDxcResult *result = nullptr;
  if (compiler->Compile(&source, arguments, count, nullptr, __uuidof(IDxcResult), (void **)&result) < 0)
    return "DXC failed";
  HRESULT status = 0;
  result->GetStatus(&status);
  std::string outcome = "ok";
  IDxcBlobEncoding *errors = nullptr;
  if (status < 0 && result->GetErrorBuffer(&errors) >= 0 && errors)
    outcome = first_error(std::string((const char *)errors->GetBufferPointer(), errors->GetBufferSize()));
  else if (status < 0)
    outcome = "error without a text";
  if (errors) errors->Release();
  result->Release();
  return outcome;
}

int main(int, char **argv) {
  void *library = dlopen(argv[1], RTLD_NOW);
  if (!library) {
    std::cerr << dlerror() << std::endl;
    return 1;
  }
  auto create = (DxcCreateInstanceProc)dlsym(library, "DxcCreateInstance");
  IDxcCompiler3 *compiler = nullptr;
  if (!create || create(CLSID_DxcCompiler, __uuidof(IDxcCompiler3), (void **)&compiler) < 0) return 1;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string profile, path;
    words >> profile >> path;
    std::cout << path << ": " << compile(compiler, profile, path) << std::endl;
  }
}
